"""What a drain does with several versions: order, models in memory, switches, versions that go away meanwhile."""

from __future__ import annotations

import io

import pytest
from django.core.management import call_command

from shop_similarity import rollout
from shop_similarity.embedding import outbox
from shop_similarity.embedding.index import drop_index
from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry
from shop_similarity.rollout import retirement
from shop_similarity.workers import embedder, line
from shop_similarity.workers import rollout as worker_rollout
from shop_similarity.workers.clock import look_round
from shop_similarity.workers.drain import drain
from tests.shop_similarity.drawn_photos import product_image, products
from tests.shop_similarity.factories import add_photo, make_product

pytestmark = pytest.mark.django_db

State = ModelVersion.State
BETTER = {"evaluation": {"set": "s", "retrieval": {"mean_average_precision": 0.9}}}
WORSE = {"evaluation": {"set": "s", "retrieval": {"mean_average_precision": 0.8}}}


@pytest.fixture(autouse=True)
def _small_batches(settings, monkeypatch):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "BATCH_SIZE": 4}
    monkeypatch.setattr(worker_rollout, "_next_count", 0.0)
    monkeypatch.setattr(worker_rollout, "_REST", 0)
    embedder.release_embedder()
    yield
    embedder.release_embedder()


@pytest.fixture
def shop(tiny_version) -> tuple[ModelVersion, ModelVersion]:
    """Ten products embedded by the active version, and a better candidate with nothing yet."""
    old = tiny_version("old")
    for number, item in enumerate(products(10)):
        add_photo(make_product(item.name), item.photo(), f"{number}.jpg")
    drain()
    new = tiny_version("new", state=State.CANDIDATE, seed=8)
    for version, metrics in ((old, WORSE), (new, BETTER)):
        version.metrics = metrics
        version.save()
    return old, new


def _order(monkeypatch) -> list[int]:
    """The versions in the order in which batches are written for them."""
    written: list[int] = []
    inner = line.write_embeddings
    monkeypatch.setattr(line, "write_embeddings", lambda pk, items: written.append(pk) or inner(pk, items))
    return written


def test_a_drain_embeds_what_a_wished_version_lacks_and_switches(shop):
    old, new = shop
    assert not rollout.request_activation(new)
    drained = drain()
    assert drained.embedded == 10
    assert set(ModelVersion.objects.values_list("name", "state")) == {("old", "standby"), ("new", "active")}
    # The next photo is for the new active version first, and for the old one all the same.
    photo = add_photo(make_product(), products(11)[10].photo(), "later.jpg")
    assert outbox.versions_with_work() == [new.pk, old.pk]
    drain()
    assert set(Embedding.objects.filter(image_id=photo.pk).values_list("version", flat=True)) == {old.pk, new.pk}


def test_the_timekeeper_fulfils_a_wish_that_needs_no_photo(shop):
    _old, new = shop
    sweep(files=False)
    drain()
    rollout.request_activation(new)
    assert not outbox.has_due()
    look_round()
    assert ModelVersion.objects.active() == new


@pytest.mark.django_db(transaction=True)
def test_embed_products_fulfils_a_wish_where_no_worker_runs(shop, monkeypatch):
    _old, new = shop
    rollout.request_activation(new)
    try:
        # So busy that the drain itself does not come to it.
        monkeypatch.setattr(worker_rollout, "_next_count", float("inf"))
        call_command("embed_products", "--model", "new", stdout=(out := io.StringIO()), stderr=io.StringIO())
        assert "new is the active version now" in out.getvalue()
        assert ModelVersion.objects.active() == new
    finally:
        drop_index(new.pk)


def test_saved_photos_of_all_versions_interrupt_a_backfill(shop, monkeypatch):
    old, new = shop
    sweep(files=False)
    written = _order(monkeypatch)

    def save_once(_drained) -> None:
        if len(written) == 1:
            add_photo(make_product(), products(11)[10].photo(), "saved.jpg")

    drain(progress=save_once)
    # A batch of the backfill, the saved photo for both, then the rest of the backfill.
    assert written == [new.pk, old.pk, new.pk, new.pk]
    photo = Embedding.objects.filter(file_name__contains="saved").order_by("embedded_at")
    assert photo.count() == 2
    assert new.embeddings.count() == old.embeddings.count() == 11


def test_a_backfill_of_the_active_version_lets_photos_saved_for_others_pass(shop, monkeypatch):
    old, new = shop
    OutboxEntry.objects.all().delete()
    Embedding.objects.all().delete()
    sweep(files=False, priority=OutboxEntry.Priority.BACKFILL)
    OutboxEntry.objects.filter(version=new).delete()
    photo = add_photo(make_product(), products(11)[10].photo(), "saved.jpg")
    written = _order(monkeypatch)
    drain()
    assert written[:2] == [old.pk, new.pk]
    assert Embedding.objects.get(version=new).image_id == photo.pk


def test_versions_in_use_stay_in_memory(shop, monkeypatch):
    loaded: list[str] = []
    inner = embedder.Embedder.__init__
    monkeypatch.setattr(
        embedder.Embedder, "__init__", lambda self, version: loaded.append(version.name) or inner(self, version)
    )
    sweep(files=False)
    for number in range(3):
        add_photo(make_product(), products(20)[10 + number].photo(), f"again {number}.jpg")
        drain()
    assert loaded == ["new"]


@pytest.mark.usefixtures("loaded_anew")
def test_the_active_version_s_model_is_the_last_to_go(shop, tiny_version, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MODELS_IN_MEMORY": 2}
    old, new = shop
    third = tiny_version("third", state=State.CANDIDATE, seed=9)
    first = embedder.get_embedder(old)
    embedder.get_embedder(new)
    embedder.get_embedder(third)
    assert list(embedder._loaded) == [old.pk, third.pk]
    assert embedder.get_embedder(old) is first
    # What stays goes on working after another one was freed.
    assert embedder.embed_image(old, product_image("mug", "red")).shape == (4096,)


def test_models_of_retired_versions_are_freed(shop):
    _old, new = shop
    sweep(files=False)
    drain()
    assert set(embedder._loaded) == {_old.pk, new.pk}
    rollout.retire(new)
    drain()
    assert set(embedder._loaded) == {_old.pk}
    look_round()
    assert not new.embeddings.exists()


@pytest.mark.parametrize("remove", [rollout.retire, rollout.delete])
def test_a_version_that_goes_while_a_batch_of_it_is_computed_leaves_nothing(shop, monkeypatch, remove):
    old, new = shop
    sweep(files=False)
    inner = embedder.Embedder.embed
    removed = []

    def embed(self, photos):
        if self.version_id == new.pk and not removed:
            removed.append(new.pk)
            remove(ModelVersion.objects.get(pk=new.pk))
        return inner(self, photos)

    monkeypatch.setattr(embedder.Embedder, "embed", embed)
    drained = drain()
    assert removed
    assert drained.embedded == 0
    retirement.clear_retired()
    assert set(Embedding.objects.values_list("version", flat=True)) == {old.pk}
    assert not OutboxEntry.objects.exists()


def test_a_wished_version_that_cannot_be_loaded_holds_nobody_up(shop):
    old, new = shop
    new.weights.storage.delete(new.weights.name)
    rollout.request_activation(new)
    photo = add_photo(make_product(), products(11)[10].photo(), "saved.jpg")
    drained = drain()
    assert "cannot be read" in drained.unusable["new"]
    assert Embedding.objects.filter(version=old, image_id=photo.pk).exists()
    assert ModelVersion.objects.active() == old
