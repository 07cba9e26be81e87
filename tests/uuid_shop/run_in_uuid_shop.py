"""Run by test_uuid_shop.py in a process of its own, with the settings of this shop."""

from __future__ import annotations

import io
import uuid
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.template import Context, Template
from django.utils import timezone
from PIL import Image

from shop_similarity import rollout
from shop_similarity.catalogue import NotAKeyError, get_catalogue, product_key
from shop_similarity.checks import check_database, check_settings
from shop_similarity.embedding import outbox
from shop_similarity.embedding.sweep import sweep
from shop_similarity.embedding.writing import PhotoVector, write_embeddings
from shop_similarity.feedback import tokens
from shop_similarity.feedback.preferences import preferences
from shop_similarity.feedback.roll_up import roll_up
from shop_similarity.feedback.statistics import click_rates
from shop_similarity.models import (
    Embedding,
    Event,
    MerchandisingRule,
    ModelVersion,
    OutboxEntry,
    Preference,
    VisualQuery,
)
from shop_similarity.rollout.status import status
from shop_similarity.search import Filters, SearchOptions, search_by_vector, similar_products, similar_to_several
from shop_similarity.search.cache import cached_similar_products
from tests.shop_similarity.feedback.lists import address_of
from tests.uuid_shop.models import FramedPoster, Poster
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


@pytest.fixture
def version() -> ModelVersion:
    return ModelVersion.objects.create(name="v1", architecture="mildnet", weights_sha256="0", state="active")


def _poster(title: str = "A poster", model=Poster, **values) -> Poster:
    return model.objects.create(title=title, picture=ContentFile(title.encode(), name="p.jpg"), **values)


def _embed_all(version: ModelVersion, seed: int = 0) -> None:
    claims = outbox.claim(version.pk, 1_000, "w")
    rows = {row.image_id: row for row in get_catalogue().rows(get_catalogue().images())}
    vectors = random_vectors(len(claims), seed=seed)
    write_embeddings(
        version.pk,
        [
            PhotoVector(claim, rows[claim.image_id], "1:1", uuid.uuid4().hex * 2, vector)
            for claim, vector in zip(claims, vectors, strict=True)
        ],
    )


def test_checks_and_column_types():
    assert check_settings() == []
    assert check_database(databases=["default"]) == []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_typeof(product_id)::text FROM shop_similarity_outboxentry RIGHT JOIN (SELECT 1) o ON true"
        )
        assert cursor.fetchone() == ("uuid",)


@pytest.mark.parametrize("text", ["7", "x", "\x00", "\ud800", "9" * 40, f"{uuid.uuid4()}\x00", str(uuid.uuid4())[:-1]])
def test_what_is_no_uuid_is_no_key(text):
    with pytest.raises(NotAKeyError):
        product_key(text)


def test_uuids_are_keys_however_they_are_written():
    key = uuid.uuid4()
    assert product_key(key) == product_key(str(key)) == product_key(key.hex.upper()) == key


def test_no_migration_is_missing():
    call_command("makemigrations", "shop_similarity", check=True, dry_run=True)


def test_save_search_and_delete(version):
    posters = [_poster(f"Poster {n}", motif="sea" if n % 2 else "hill") for n in range(8)]
    assert set(OutboxEntry.objects.values_list("product_id", flat=True)) == {poster.pk for poster in posters}
    _embed_all(version)
    found = similar_products(posters[0], 5)
    assert len(found) == 5
    assert posters[0] not in found
    assert all(isinstance(poster.similar_image_id, uuid.UUID) for poster in found)
    assert status()["coverage"] == 1.0
    few = Poster.objects.filter(pk__in=[posters[3].pk, posters[5].pk])
    assert {p.pk for p in similar_products(posters[0], 5, among=few)} == {posters[3].pk, posters[5].pk}
    posters[1].delete()
    assert Embedding.objects.count() == 7


def test_rules_filters_variants_baskets_and_the_cache(version, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VARIANT_GROUP": "title", "WIDGET_CACHE_SECONDS": 60}
    posters = [_poster(f"Poster {n // 2}", motif="sea" if n % 2 else "hill's") for n in range(8)]
    bare = Poster.objects.create(title="No picture", motif="sea")
    _embed_all(version)
    # Of each pair of variants one is shown, and none of the product's own.
    found = similar_products(posters[0])
    assert {p.title for p in found} == {"Poster 1", "Poster 2", "Poster 3"}
    assert len(found) == 3
    sea = SearchOptions(filters=Filters(categories=("sea",)), collapse=False)
    assert {p.pk for p in similar_products(posters[0], options=sea)} == {p.pk for p in posters[1::2]}
    MerchandisingRule.objects.create(kind="pin", category="hill's", target_product_id=posters[5].pk, position=1)
    MerchandisingRule.objects.create(kind="pin", target_product_id=bare.pk, position=2)
    MerchandisingRule.objects.create(kind="hide", product_id=posters[0].pk, target_product_id=posters[6].pk)
    MerchandisingRule.objects.create(kind="boost", target_category="sea", boost=0.5)
    for _ in range(2):
        found = cached_similar_products(posters[0], 4)
        assert [p.pk for p in found][:2] == [posters[5].pk, bare.pk]
        assert {p.pk for p in found[2:]} == {posters[3].pk, posters[7].pk}
        assert [p.pinned for p in found] == [True, True, False, False]
    basket = similar_to_several([posters[0], posters[2]], options=SearchOptions(rules=False))
    assert {p.title for p in basket} == {"Poster 2", "Poster 3"}
    by_vector = search_by_vector(random_vectors(1)[0], exclude=[posters[1].pk], options=SearchOptions(explain=True))
    assert len(by_vector) == 5
    assert by_vector[1].pinned and by_vector[1].pk == bare.pk


def test_child_models_are_products_too(version):
    framed = _poster("Framed", FramedPoster, frame="oak")
    plain = _poster("Plain")
    _embed_all(version)
    assert [p.pk for p in similar_products(framed, 3)] == [plain.pk]
    assert similar_products(plain, 3)[0].pk == framed.pk
    framed.picture.save("other.jpg", ContentFile(b"other"))
    assert OutboxEntry.objects.filter(image_id=framed.pk, priority=OutboxEntry.Priority.SAVED).exists()
    framed.delete()
    assert list(Embedding.objects.values_list("image_id", flat=True)) == [plain.pk]


def test_product_without_a_photo_is_no_photo(version):
    poster = Poster.objects.create(title="Empty")
    assert not OutboxEntry.objects.exists()
    assert status()["images"] == 0
    assert similar_products(poster) == []


def test_bulk_created_products_are_swept_up(version):
    Poster.objects.bulk_create([Poster(title=str(n), picture=f"{n}.jpg") for n in range(5)])
    assert sweep(files=False).enqueued == 5


def test_api_and_widget(client, version):
    posters = [_poster(f"Poster {n}") for n in range(4)]
    _embed_all(version)
    url = f"/api/similarity/v1/products/{posters[0].pk}/similar/"
    data = client.get(url, {"category": "", "limit": 2}).json()
    assert data["errors"]
    data = client.get(url, {"limit": 2}).json()
    assert len(data["results"]) == 2
    assert len(client.get(data["next"]).json()["results"]) == 1
    assert client.get("/api/similarity/v1/products/42/similar/").status_code == 404
    keys = [str(poster.pk).upper() for poster in posters[:2]] + ["42"]
    basket = client.get("/api/similarity/v1/products/similar/", {"product": keys}).json()
    assert {row["id"] for row in basket["results"]} == {str(poster.pk) for poster in posters[2:]}
    assert basket["unknown"] == ["42"]
    clicked = {"token": data["token"], "events": [{"kind": "click", "product": data["results"][0]["id"].upper()}]}
    assert client.post("/api/similarity/v1/events/", clicked, content_type="application/json").status_code == 204
    assert Event.objects.filter(kind="click", target_product_id=data["results"][0]["id"]).count() == 1
    html = Template("{% load shop_similarity %}{% similar_products p %}").render(Context({"p": posters[0]}))
    assert html.count("<li") == 3


def test_roll_out_and_back(version):
    for number in range(4):
        _poster(f"Poster {number}")
    _embed_all(version)
    candidate = ModelVersion.objects.create(name="v2", architecture="mildnet", weights_sha256="0")
    rollout.request_activation(candidate, force=True)
    assert rollout.coverage(candidate).lacking == 4
    assert rollout.advance() is None
    _embed_all(candidate, seed=1)
    assert rollout.advance() == candidate
    _poster("Later")
    assert OutboxEntry.objects.count() == 2
    assert rollout.roll_back() == version


def test_events_become_statistics_and_preferences(client, version):
    posters = [_poster(f"Poster {n}") for n in range(4)]
    first, *shown = (poster.pk for poster in posters)
    for number in range(3):
        token = tokens.issue(version=version, surface="widget", product_id=first, shown=shown)
        # A click as another program may write the key.
        event = {"kind": "click", "product": shown[2].hex if number else str(shown[2])}
        answer = client.post(
            "/similarity/events/",
            {"token": token, "events": [event]},
            "application/json",
            REMOTE_ADDR=address_of(first, number),
        )
        assert answer.status_code == 204
    assert set(Event.objects.filter(kind="click").values_list("target_product_id", "position")) == {(shown[2], 3)}
    roll_up()
    [rate] = click_rates()
    assert (rate.impressions, rate.clicks) == (3, 3)
    assert {row[:4] for row in preferences()} == {(first, shown[2], shown[0], 3), (first, shown[2], shown[1], 3)}
    Event.objects.update(shown_at=F("shown_at") - timedelta(days=3))
    roll_up()
    assert [row[3] for row in preferences()] == [3, 3] == list(Preference.objects.values_list("count", flat=True))


def test_the_widgets_own_address(client, version):
    posters = [_poster(f"Poster {n}", motif="sea") for n in range(4)]
    _embed_all(version)
    url = f"/similarity/products/{posters[0].pk}/similar/"
    html = client.get(url).content.decode()
    assert html.count('<li class="similar-products__item"') == 3
    assert f'data-similarity-product="{posters[1].pk}"' in html
    assert "data-similarity-token" in html
    assert client.get(f"/similarity/products/{uuid.uuid4()}/similar/").status_code == 404
    assert client.get("/similarity/products/42/similar/").status_code == 404
    page = client.get(url, {"page": "1"}).content.decode()
    assert page.startswith("<!doctype html>")
    template = Template("{% load shop_similarity %}{% similar_products p lazy=True same_category=True filters=True %}")
    lazy = template.render(Context({"p": posters[0]}))
    assert f'hx-get="{url}?options=' in lazy


def test_search_by_photo(client, version, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_WAIT_SECONDS": 0}
    posters = [_poster(f"Poster {n}", motif="sea" if n % 2 else "hill") for n in range(4)]
    _embed_all(version)
    photo = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(photo, "PNG")
    address = client.post("/similarity/search/", {"photo": ContentFile(photo.getvalue(), name="red.png")}).url
    vector = Embedding.objects.values_list("vector", flat=True).get(product_id=posters[1].pk)
    VisualQuery.objects.update(vector=vector, photo=None, answered_at=timezone.now())
    page = client.get(address).content.decode()
    assert page.index(posters[1].title) < page.index(posters[2].title)
    assert '<option value="sea">sea</option>' in page
    assert "price_min" not in page
    only = client.get(address, {"category": "hill"}).content.decode()
    assert posters[1].title not in only
    assert posters[2].title in only
