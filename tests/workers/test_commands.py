"""embed_products and similar_products, as somebody types them."""

from __future__ import annotations

import json
import sys
from io import StringIO

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command

from catalog.models import Product, ProductPhoto
from shop_similarity.embedding.index import index_state
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry
from shop_similarity.search import SearchOptions
from shop_similarity.visual_search import results, submit
from shop_similarity.workers import embedder, visual_queries
from tests.shop_similarity.drawn_photos import product_photo, products
from tests.shop_similarity.factories import add_photo, make_product
from tests.training.versions.test_first_version import small_recipe, storages_in_tmp  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_model_kept():
    embedder.release_embedder()
    yield
    embedder.release_embedder()


def _say(command: str, *arguments, **options) -> str:
    out = StringIO()
    call_command(command, *arguments, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def shop(tiny_version) -> list[Product]:
    tiny_version()
    made = []
    for item in products(6):
        product = make_product(item.name)
        product.photos.create(file=item.photo_file((64, 64)))
        made.append(product)
    return made


def test_embeds_what_is_missing_builds_the_index_and_then_has_nothing_to_do(shop):
    storage = ProductPhoto._meta.get_field("file").storage
    name = storage.save("bulk.jpg", ContentFile(product_photo("mug", "red", size=(64, 64), seed=99)))
    ProductPhoto.objects.bulk_create([ProductPhoto(product=shop[0], file=name)])
    said = _say("embed_products")
    assert "Photos embedded: 7," in said
    assert "Built the index of tiny" in said
    assert Embedding.objects.count() == 7
    assert index_state(ModelVersion.objects.get().pk).state == "ready"
    again = _say("embed_products")
    assert "Photos queued: 0." in again
    assert "Photos embedded: 0," in again


def test_failed_photos_are_tried_again_only_when_asked(shop):
    bad = add_photo(shop[0], b"no picture", "bad.jpg")
    assert "Failed: 1." in _say("embed_products")
    assert "Failed: 0." in _say("embed_products")
    assert "Photos queued: 1." in _say("embed_products", retry_failed=True)
    assert OutboxEntry.objects.get().image_id == bad.pk


def test_photos_that_wait_for_another_try_do_not_keep_the_command(shop, monkeypatch):
    from django.core.files.storage import FileSystemStorage

    inner = FileSystemStorage._open
    bad = shop[0].photos.get().file.name

    def flaky(self, name, mode="rb"):
        if name == bad:
            raise ConnectionResetError("the storage hung up")
        return inner(self, name, mode)

    monkeypatch.setattr(FileSystemStorage, "_open", flaky)
    said = _say("embed_products")
    assert "Photos embedded: 5," in said
    assert "wait for another try: 1." in said


def test_queue_only_leaves_the_work_to_the_workers(shop, servers):
    from shop_similarity.embedding import bell

    bell._app.cache_clear()
    OutboxEntry.objects.all().delete()
    assert "Photos queued: 6." in _say("embed_products", queue_only=True)
    assert not Embedding.objects.exists()
    assert OutboxEntry.objects.count() == 6


def test_unknown_and_retired_versions_are_refused(shop):
    with pytest.raises(CommandError, match=r"no model version 'nope'\. Known: tiny"):
        _say("embed_products", model="nope")
    ModelVersion.objects.update(state=ModelVersion.State.RETIRED)
    with pytest.raises(CommandError, match="is retired"):
        _say("embed_products", model="tiny")


def test_similar_products_of_a_product_and_of_a_picture(shop, tmp_path, settings):
    # To an untrained network these drawings look much the same.
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DUPLICATE_SIMILARITY": 2.0}
    _say("embed_products")
    asked = shop[0]
    data = json.loads(_say("similar_products", str(asked.pk), "-k", "3", json=True))
    assert data["query"] == {"product": str(asked.pk), "name": asked.name}
    assert data["version"] == "tiny"
    assert len(data["similar"]) == 3
    assert str(asked.pk) not in {row["product"] for row in data["similar"]}
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(asked.photos.get().file.read())
    found = json.loads(_say("similar_products", str(picture), "-k", "2", json=True))["similar"]
    assert found[0]["product"] == str(asked.pk)
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert asked.name in _say("similar_products", str(picture))


@pytest.mark.parametrize("questions", [1, 2])
def test_a_picture_asks_as_a_search_by_photo_does(tiny_version, tmp_path, settings, questions):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DUPLICATE_SIMILARITY": 2.0}
    tiny_version(questions=questions)
    for item in products(6):
        add_photo(make_product(item.name), item.photo((120, 150)), f"{item.name}.jpg")
    _say("embed_products")
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(product_photo("mug", "teal", seed=5))
    query = submit(picture)
    visual_queries.answer_waiting()
    shown = results(query, SearchOptions(limit=6))
    found = json.loads(_say("similar_products", str(picture), "-k", "6", json=True))["similar"]
    assert len(found) == 6
    assert [(row["product"], row["similarity"]) for row in found] == [
        (str(product.pk), pytest.approx(product.similarity, abs=1e-3)) for product in shown
    ]


def test_similar_products_says_what_is_wrong(shop, tmp_path):
    with pytest.raises(CommandError, match=r"has no embedding in tiny: run `manage\.py embed_products`"):
        _say("similar_products", str(shop[0].pk))
    with pytest.raises(CommandError, match="neither the key of a product nor a picture file"):
        _say("similar_products", "no-such-thing.jpg")
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    with pytest.raises(CommandError, match=r"(?i)image|picture"):
        _say("similar_products", str(text))
    ModelVersion.objects.update(state=ModelVersion.State.RETIRED)
    with pytest.raises(CommandError, match="calibrate_mildnet"):
        _say("similar_products", str(shop[0].pk))


@pytest.mark.long
@pytest.mark.slow
def test_first_embed_products_makes_the_first_version_from_imagenet_weights(tmp_path):
    drawn = [item for item in products(40) if item.kind in ("mug", "shoe")][:8]
    for item in drawn:
        product = make_product(item.name)
        product.photos.create(file=item.photo_file((224, 224)))
    said = _say("embed_products")
    assert "making the first one" in said
    assert "Photos embedded: 8," in said
    version = ModelVersion.objects.active()
    assert version.weights_source
    assert version.metrics["calibration"]["photos"] == 8
    assert len(version.weights_sha256) == 64


def test_without_tensorflow_photos_wait_and_the_command_says_what_is_missing(shop, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(CommandError, match="needs tensorflow, which is not installed here"):
        _say("embed_products")
    assert OutboxEntry.objects.filter(attempts=0, leased_until=None, failed_at=None).count() == 6
    picture = tmp_path / "mug.jpg"
    picture.write_bytes(product_photo("mug", "red", size=(64, 64), seed=1))
    with pytest.raises(CommandError, match="needs tensorflow, which is not installed here"):
        _say("similar_products", str(picture))


@pytest.mark.slow
@pytest.mark.parametrize("queue_only", [False, True])
def test_the_first_run_makes_the_model_and_then_looks_for_what_explains_it(
    storages_in_tmp,  # noqa: F811
    small_recipe,  # noqa: F811
    servers,
    queue_only,
):
    from shop_similarity.embedding import bell

    bell._app.cache_clear()
    for item in products(12):
        add_photo(make_product(item.name), item.photo(), f"{item.name}.jpg")
    out, err = StringIO(), StringIO()
    call_command("embed_products", queue_only=queue_only, stdout=out, stderr=err)
    assert "making the first one" in out.getvalue()
    version = ModelVersion.objects.active()
    assert Embedding.objects.filter(version=version).count() == (0 if queue_only else 12)
    # The numbers of this small network are random: it is looked at, and found to tell nothing apart.
    assert f"Similarities of {version.name} can't be explained" in err.getvalue()
