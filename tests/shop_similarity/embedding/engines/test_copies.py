"""What an engine beside Postgres is fed with, and what becomes of pages when it does not answer."""

from __future__ import annotations

import json
import re
from io import StringIO
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from django.urls import reverse
from django.utils.html import escape

from catalog.models import Product
from shop_similarity import database, rollout
from shop_similarity.checks import check_database, check_settings
from shop_similarity.embedding.engines import EngineDown, EngineError, asking, copies, get_engine
from shop_similarity.embedding.engines.states import trouble
from shop_similarity.models import Embedding, EngineChange, EngineCopy, ModelVersion
from shop_similarity.rollout.recall import measure_code_recall
from shop_similarity.rollout.status import status
from shop_similarity.search import cache, similar_products
from shop_similarity.search.cache import cached_similar_products
from shop_similarity.search.options import SearchOptions
from shop_similarity.storefront.cards import widget_cards
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors


def cheapest(product: Product, limit: int) -> list[Product]:
    """The shop's FALLBACK."""
    return list(Product.objects.order_by("price")[:limit])


def _keys(products: list[Product]) -> list:
    return [product.pk for product in products]


def _caching(settings, seconds: int = 60, **values) -> None:
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "WIDGET_CACHE_SECONDS": seconds, **values}
    asking.forget()


def test_engine_down(engine_beside, shop, settings, is_large, client, admin_client, monkeypatch):
    _caching(settings, FALLBACK=f"{__name__}.cheapest")
    engine_beside.bring_up(shop.version)
    known, unknown = shop.products[:2]
    before = _keys(cached_similar_products(known, 4))
    assert trouble(asking=True) == []
    engine_beside.stop()
    # The cached list has run out, and is shown all the same.
    monkeypatch.setattr(cache, "time", SimpleNamespace(time=lambda: 4e9))
    assert _keys(cached_similar_products(known, 4)) == before
    with pytest.raises(EngineDown):
        similar_products(unknown, 4)
    options = SearchOptions(limit=4)
    assert {card.similarity for card in widget_cards(unknown, options)} == {None}
    answer = client.get(reverse("shop_similarity_api:similar-products", args=[unknown.pk]))
    assert answer.status_code == 503 and answer.json()["type"].endswith("search-engine-away")
    assert answer.headers["Retry-After"]
    # A save goes on, and is told when the engine answers again.
    lone = make_product(stock=1, price=1)
    store_vectors(shop.version, make_photos_without_files([lone]), shop.vectors[[1]])
    with pytest.raises(EngineDown):
        copies.feed()
    assert EngineChange.objects.count() == 1
    (sentence,) = trouble()
    assert "can't be used" in sentence
    page = admin_client.get(reverse("admin:shop_similarity_dashboard")).content.decode()
    assert escape(sentence) in page
    assert status(asking=True)["engine_trouble"]
    assert "shop_similarity.W023" in {message.id for message in check_database([database.write_alias()])}
    engine_beside.start()
    asking.forget()
    assert engine_beside.bring_up() == 1
    assert lone.pk in _keys(similar_products(unknown, 4))
    assert trouble(asking=True) == [] and not EngineChange.objects.exists()


def test_small_catalogue_does_without_the_engine(engine_beside, shop):
    engine_beside.bring_up(shop.version)
    engine_beside.stop()
    product = shop.products[0]
    found = _keys(similar_products(product, 5))
    assert set(found) == set(shop.nearest(product)[:5])


def test_engine_that_fell_silent_is_not_asked_by_every_page(engine_beside, shop, is_large, monkeypatch):
    engine_beside.bring_up(shop.version)
    engine_beside.stop()
    with pytest.raises(EngineDown):
        similar_products(shop.products[0], 3)
    asked = []
    monkeypatch.setattr(type(get_engine()), "nearest", lambda *_: asked.append(1))
    with pytest.raises(EngineDown):
        similar_products(shop.products[0], 3)
    assert asked == []


def test_empty_engine_is_filled_anew_by_one_command(engine_beside, shop, is_large):
    engine_beside.bring_up(shop.version)
    get_engine().drop(engine_beside.copy_of(shop.version))
    asking.forget()
    with pytest.raises(EngineDown):
        similar_products(shop.products[0], 3)
    assert trouble(asking=True)
    said = StringIO()
    call_command("sync_engine", stdout=said, verbosity=0)
    assert f"told of {len(shop.products)} photos" in said.getvalue() and "drawn: ready" in said.getvalue()
    asking.forget()
    assert len(similar_products(shop.products[0], 3)) == 3
    call_command("sync_engine", "--rebuild", stdout=said, verbosity=0)
    # The copy of before is gone.
    assert EngineCopy.objects.count() == 1
    asking.forget()
    assert len(similar_products(shop.products[0], 3)) == 3


def test_filling_goes_on_where_it_was(engine_beside, shop, monkeypatch):
    monkeypatch.setattr(copies, "_BATCH", 50)
    seen = []
    stops = iter([False, False, True, True, True])
    assert copies.feed(progress=lambda p: seen.append((p.told, p.left)), stopped=lambda: next(stops)) == 50
    assert seen == [(50, 70)]
    row = EngineCopy.objects.get()
    assert row.photos == 50 and row.filled_at is None
    # It is not searched before it is complete.
    asking.forget()
    with pytest.raises(EngineDown, match="sync_engine"):
        asking.nearest(shop.version.pk, None, 5)
    # What changes meanwhile is not lost.
    Embedding.objects.filter(product_id=shop.products[0].pk).delete()
    assert copies.feed() == 70 + 1
    assert EngineCopy.objects.get().filled_at is not None
    found = {key for product in shop.products[1:10] for key in _keys(similar_products(product, 10))}
    assert shop.products[0].pk not in found and len(found) > 10


def test_what_was_told_and_not_struck_out_is_told_again(engine_beside, shop, monkeypatch):
    engine_beside.bring_up(shop.version)
    Embedding.objects.filter(product_id=shop.products[4].pk).update(file_mark="2:2")
    assert EngineChange.objects.count() == 1
    monkeypatch.setattr(copies.database, "raw_delete", _killed)
    with pytest.raises(KeyboardInterrupt):
        copies.feed()
    monkeypatch.undo()
    assert copies.feed() == 1 and copies.feed() == 0


def _killed(*_):
    raise KeyboardInterrupt


def test_change_that_is_rolled_back_is_not_told(engine_beside, shop):
    engine_beside.bring_up(shop.version)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Embedding.objects.all().delete()
        1 / 0  # noqa: B018
    assert not EngineChange.objects.exists()


def test_recall_is_measured_by_the_engine(engine_beside, shop):
    engine_beside.bring_up(shop.version)
    measured = measure_code_recall(shop.version, products=5, seconds=60)
    assert measured.path == "engine" and measured.recall >= 0.9


def test_back_to_pgvector_leaves_nothing(engine_beside, shop, settings):
    engine_beside.bring_up(shop.version)
    for row in EngineCopy.objects.all():
        get_engine().drop(copies.copy_of(row))
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ENGINE": "pgvector", "ENGINE_OPTIONS": None}
    assert copies.feed() == 0
    Embedding.objects.filter(product_id=shop.products[4].pk).delete()
    assert not EngineChange.objects.exists() and not EngineCopy.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'shop_similarity_engine%'")
        assert cursor.fetchone() == (0,)
    assert len(similar_products(shop.products[0], 3)) == 3


def test_deleting_a_version_leaves_the_engine_to_the_workers(engine_beside, shop, monkeypatch):
    new = make_version("new", ModelVersion.State.CANDIDATE)
    store_vectors(new, shop.photos, shop.vectors)
    engine_beside.bring_up(shop.version, new)
    copy = engine_beside.copy_of(new)
    asked = []
    with monkeypatch.context() as patched:
        patched.setattr(type(get_engine()), "drop", lambda *_: asked.append(1))
        rollout.delete(new)
    assert asked == [], "a request would wait for an engine that does not answer"
    assert copies.feed() == 0
    assert not get_engine().state(copy).exists and EngineCopy.objects.count() == 1


def test_catching_up_ends_where_the_version_is_given_up_meanwhile(engine_beside, shop):
    engine_beside.bring_up(shop.version)
    Embedding.objects.filter(product_id=shop.products[4].pk).update(file_mark="2:2")
    looks = []

    def give_up_after_the_first_look(execute, sql, params, many, context):
        found = execute(sql, params, many, context)
        if re.match(r"SELECT (?!COUNT).*enginechange.* LIMIT 1$", sql) and not looks:
            looks.append(sql)
            copies.give_up(shop.version.pk)
        return found

    feeder = copies._Feeder(get_engine(), EngineCopy.objects.get(), "", lambda _: None, lambda: False)
    with connection.execute_wrapper(give_up_after_the_first_look):
        feeder._catch_up()
    assert looks and not EngineChange.objects.exists()


def test_what_was_noted_for_a_copy_that_nobody_wants_any_more_is_struck_out(engine_beside, shop):
    engine_beside.bring_up(shop.version)
    # A transaction of the shop that began before the version was retired, and ended when its changes were forgotten.
    EngineChange.objects.create(version_id=shop.version.pk + 1, embedding_id=1)
    EngineChange.objects.create(version_id=shop.version.pk, embedding_id=Embedding.objects.first().pk)
    assert copies.feed() == 1
    assert not EngineChange.objects.exists()
    copies.is_due()
    assert not copies.is_due(), "the engine would be looked after without end"


def test_way_back_to_pgvector_that_was_held_up_is_gone_to_its_end(engine_beside, shop, settings, monkeypatch):
    engine_beside.bring_up(shop.version)
    for row in EngineCopy.objects.all():
        get_engine().drop(copies.copy_of(row))
    Embedding.objects.filter(product_id=shop.products[4].pk).update(file_mark="2:2")
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ENGINE": "pgvector", "ENGINE_OPTIONS": None}
    monkeypatch.setattr(copies, "_LONGEST_WAIT", "100ms")
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {Embedding._meta.db_table}")
        # As a long query of a report would.
        with pytest.raises(OperationalError):
            copies.feed()
    finally:
        other.close()
    monkeypatch.setattr(copies, "_next_look", 0.0)
    assert copies.is_due()
    assert copies.feed() == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'shop_similarity_engine%'")
        assert cursor.fetchone() == (0,)
    assert not EngineChange.objects.exists() and not EngineCopy.objects.exists()


def test_rebuild_that_can_not_be_leaves_the_copy(engine_beside, shop, settings, monkeypatch):
    engine_beside.bring_up(shop.version)
    with monkeypatch.context() as patch:
        patch.setattr(type(get_engine()), "check", _unusable)
        with pytest.raises(CommandError, match="No package"):
            call_command("sync_engine", "--rebuild", verbosity=0)
    engine_beside.stop()
    with pytest.raises(CommandError, match="Nothing is lost"):
        call_command("sync_engine", "--rebuild", verbosity=0)
    engine_beside.start()
    assert copies.wanted_copy(shop.version.pk).filled_at is not None


def _unusable(*_):
    raise EngineError("No package.")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ENGINE": "milvos"}, "Write one of 'pgvector', 'milvus'"),
        ({"ENGINE": "shop.engines.Mine"}, "can't be imported"),
        ({"ENGINE": "pgvector", "ENGINE_OPTIONS": {"uri": "http://here"}}, "leave it out"),
        ({"ENGINE": "milvus", "ENGINE_OPTIONS": {"url": "http://here"}}, "has url; known are"),
        ({"ENGINE": "milvus", "ENGINE_OPTIONS": {"index": "HNSW"}}, "write one of BIN_IVF_FLAT"),
        ({"ENGINE": "milvus"}, "pymilvus is not installed"),
    ],
)
def test_wrong_settings_are_said(settings, monkeypatch, values, said):
    from shop_similarity.embedding.engines import with_milvus

    monkeypatch.setattr(
        with_milvus.importlib.util, "find_spec", lambda name: None if said.startswith("pymilvus") else name
    )
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **values}
    messages = check_settings()
    assert any(said in f"{message.msg} {message.hint}" for message in messages), messages


@pytest.mark.django_db
def test_sync_engine_has_nothing_to_do_with_pgvector():
    said = StringIO()
    call_command("sync_engine", stdout=said)
    assert "nothing is to be synced" in said.getvalue()
    with pytest.raises(CommandError, match="no live model version"):
        call_command("sync_engine", "--model", "none")


def test_status_can_be_read_by_programs(engine_beside, shop):
    said = StringIO()
    call_command("similarity_status", "--json", stdout=said)
    found = json.loads(said.getvalue())
    assert found["engine"] != "pgvector" and found["versions"][0]["index"]["state"] == "absent"
