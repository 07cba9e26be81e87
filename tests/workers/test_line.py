"""What the assembly line does when something goes wrong between claim and settlement: real network, real Postgres."""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.db import DataError, connection
from django.db.utils import InterfaceError, OperationalError
from django.utils import timezone
from PIL import Image

from catalog.models import ProductPhoto
from shop_similarity.conf import get_settings
from shop_similarity.embedding import outbox
from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import Embedding, OutboxEntry
from shop_similarity.training.networks.architectures import HEAD
from shop_similarity.training.versions.loading import load_version
from shop_similarity.workers import embedder, line
from shop_similarity.workers.drain import drain
from tests.shop_similarity.factories import add_photo, make_product

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _small_batches(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "BATCH_SIZE": 4}
    embedder.release_embedder()
    line._kept_claims.clear()
    yield
    embedder.release_embedder()


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((48, 48), Image.Resampling.NEAREST).save(buffer, "JPEG")
    return buffer.getvalue()


def _photos(count: int = 4) -> list[ProductPhoto]:
    product = make_product()
    return [add_photo(product, _jpeg(seed), f"photo-{seed}.jpg") for seed in range(count)]


def _prepared(seed: int) -> np.ndarray:
    return embedder.Preprocessing(size=32).prepare(Image.open(io.BytesIO(_jpeg(seed))))


def _unsettled() -> dict[int, int]:
    return dict(OutboxEntry.objects.values_list("image_id", "attempts"))


# --- vectors ---


def _compute_in(policy: str, monkeypatch) -> None:
    monkeypatch.setattr("shop_similarity.training.versions.loading.fast_policy_of", lambda version: policy)


def _edit(monkeypatch, change):
    """Have the network of every embedder of these tests changed once it is loaded."""
    # There is no second one then that a photo could be tried with.
    _compute_in("float32", monkeypatch)
    # Other tests go on using what is kept.
    monkeypatch.setattr("tests.workers.conftest._networks", {})
    inner = embedder.Embedder.__init__

    def init(self, *arguments):
        inner(self, *arguments)
        change(self._network.model)

    monkeypatch.setattr(embedder.Embedder, "__init__", init)


BROKEN = {"not a number": np.nan, "infinite": np.inf, "zero": 0.0}


@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN)
def test_a_network_that_makes_no_usable_vector_fails_each_photo_with_a_sentence(tiny_version, monkeypatch, value):
    version = tiny_version()
    photos = _photos(6)

    def spoil(model):
        layer = model.get_layer(HEAD)
        layer.set_weights([np.full_like(weight, value) for weight in layer.get_weights()])

    _edit(monkeypatch, spoil)
    report = drain()
    assert (report.failed, report.embedded, report.retried) == (6, 0, 0)
    entries = OutboxEntry.objects.all()
    assert {entry.image_id for entry in entries} == {photo.pk for photo in photos}
    for entry in entries:
        assert entry.attempts == 1
        assert "no usable vector" in entry.last_error
        assert "rollback_model" in entry.last_error
    assert not Embedding.objects.filter(version=version).exists()
    assert not outbox.has_due()
    # Nothing queues them again before they have changed.
    assert sweep(files=True).enqueued == 0


def test_the_one_photo_that_has_no_usable_vector_fails_alone(tiny_version, monkeypatch):
    tiny_version()
    photos = _photos(4)
    poison = _prepared(2)
    _compute_in("float32", monkeypatch)
    inner = embedder.Embedder._usable

    def usable(self, vectors, pixels, *, urgent):
        for row, photo in enumerate(pixels):
            if np.array_equal(photo, poison):
                vectors[row, 17] = np.nan
        return inner(self, vectors, pixels, urgent=urgent)

    monkeypatch.setattr(embedder.Embedder, "_usable", usable)
    report = drain()
    assert (report.embedded, report.failed) == (3, 1)
    entry = OutboxEntry.objects.get()
    assert (entry.image_id, entry.attempts, entry.failed_at is None) == (photos[2].pk, 1, False)


def _store_with(version, name: str, factor: float) -> None:
    """Store the version's weights anew with those of one layer multiplied."""
    model = load_version(version)
    layer = model.get_layer(name)
    layer.set_weights([weight * np.float32(factor) for weight in layer.get_weights()])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "edited.weights.h5"
        model.save_weights(path)
        content = path.read_bytes()
    version.weights_sha256 = hashlib.sha256(content).hexdigest()
    version.weights.save("edited.weights.h5", ContentFile(content), save=False)
    version.save()


def _loud(version) -> None:
    # It overflows half precision; in float32 it changes no direction.
    _store_with(version, "block1_conv1", 3e4)


UNUSABLE = {"all 0": (HEAD, 0.0), "overflows float32 as well": ("block1_conv1", 1e38)}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize(("layer", "factor"), UNUSABLE.values(), ids=UNUSABLE)
def test_stored_weights_that_make_no_usable_vector_in_any_precision_fail_each_photo(
    tiny_version, monkeypatch, layer, factor, policy
):
    version = tiny_version()
    _store_with(version, layer, factor)
    _compute_in(policy, monkeypatch)
    _photos(3)
    assert drain().failed == 3
    assert not outbox.has_due()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_with_a_number_that_is_none_are_not_loaded_and_photos_of_other_versions_pass(tiny_version, value):
    broken, good = tiny_version("broken"), tiny_version("good", state="candidate")
    _store_with(broken, "block3_conv2", value)
    _photos(3)
    report = drain()
    assert "layer block3_conv2 holds numbers that are not finite" in report.unusable["broken"]
    assert report.embedded == 3
    assert set(OutboxEntry.objects.values_list("version", "attempts")) == {(broken.pk, 0)}
    assert Embedding.objects.filter(version=good).count() == 3


def test_photos_that_overflow_half_precision_are_computed_in_full(tiny_version, monkeypatch):
    version = tiny_version()
    _loud(version)
    photos = _photos(3)
    drain()
    exact = {row.image_id: np.array(row.vector) for row in Embedding.objects.defer(None)}
    Embedding.objects.all().delete()
    embedder.release_embedder()
    _compute_in("mixed_float16", monkeypatch)
    sweep(files=False)
    report = drain()
    assert (report.embedded, report.failed) == (3, 0)
    rows = {row.image_id: np.array(row.vector) for row in Embedding.objects.defer(None)}
    assert rows.keys() == {photo.pk for photo in photos}
    for key, vector in rows.items():
        assert float(vector @ exact[key]) == pytest.approx(1, abs=1e-3)


def test_a_shopper_s_photo_overflows_no_more_than_the_shop_s_do(tiny_version, monkeypatch):
    version = tiny_version()
    _loud(version)
    exact = embedder.get_embedder(version).embed_one(_prepared(1))
    embedder.release_embedder()
    _compute_in("mixed_float16", monkeypatch)
    vector = embedder.get_embedder(version).embed_one(_prepared(1))
    assert float(vector @ exact) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 7), (1, 4095)])
def test_vectors_of_another_length_are_refused_where_they_are_computed(tiny_version, shape):
    loaded = embedder.get_embedder(tiny_version())
    loaded._single = lambda batch: np.ones(shape, np.float32)
    with pytest.raises(embedder.UnusableVectors):
        loaded.embed_one(_prepared(1))


def test_the_network_computes_the_next_batch_while_one_is_written(tiny_version, monkeypatch, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "BATCH_SIZE": 2}
    version = tiny_version()
    photos = _photos(6)
    loaded = embedder.get_embedder(version)
    step, write = loaded._step, line.write_embeddings
    ahead, written = [], []

    def computed(batch):
        rows = step(batch)
        if threading.current_thread().name.startswith("shop-similarity-network"):
            ahead.append(len(batch))
        return rows

    def written_when_computed(version_id, photos):
        written.append(len(photos))
        # There is one batch less to compute ahead than there are batches.
        until = time.monotonic() + 30
        while len(ahead) < min(len(written), 2) and time.monotonic() < until:
            time.sleep(0.01)
        return write(version_id, photos)

    monkeypatch.setattr(loaded, "_step", computed)
    monkeypatch.setattr(line, "write_embeddings", written_when_computed)
    assert drain().embedded == 6
    assert (ahead, written) == ([2, 2], [2, 2, 2])
    assert not loaded._ahead
    exact = {photo.pk: loaded.embed_one(_prepared(seed)) for seed, photo in enumerate(photos)}
    for row in Embedding.objects.defer(None):
        assert float(np.array(row.vector) @ exact[row.image_id]) == pytest.approx(1, abs=1e-3)


def test_a_photo_that_the_shop_saves_overtakes_the_batch_of_a_backfill_that_is_computed(tiny_version, monkeypatch):
    version = tiny_version()
    photos = _photos(12)
    OutboxEntry.objects.update(priority=OutboxEntry.Priority.BACKFILL)
    loaded = embedder.get_embedder(version)
    step, write, has_saved = loaded._step, line.write_embeddings, outbox.has_saved
    saved, computed, written = [], [], []

    def compute(batch):
        computed.append(len(batch))
        until = time.monotonic() + 30
        while threading.current_thread().name.startswith("shop-similarity-network") and not saved:
            assert time.monotonic() < until
            time.sleep(0.01)
        return step(batch)

    def save_one(version_id):
        if not saved:
            saved.append(add_photo(photos[0].product, _jpeg(99), "new.jpg").pk)
        return has_saved(version_id)

    def write_in_order(version_id, items):
        written.append([item.row.image_id for item in items])
        return write(version_id, items)

    monkeypatch.setattr(line, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(loaded, "_step", compute)
    monkeypatch.setattr(outbox, "has_saved", save_one)
    monkeypatch.setattr(line, "write_embeddings", write_in_order)
    assert drain().embedded == 13
    keys = [photo.pk for photo in photos]
    assert written == [keys[:4], saved, keys[4:8], keys[8:]]
    # One of the step that was under way may be computed twice.
    assert 13 <= sum(computed) <= 14
    assert not loaded._ahead and not _unsettled()
    exact = {pk: loaded.embed_one(_prepared(seed)) for seed, pk in [*enumerate(keys), (99, saved[0])]}
    for row in Embedding.objects.defer(None):
        assert float(np.array(row.vector) @ exact[row.image_id]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("left", "passes"), [(0.9, True), (0.4, False)])
def test_saved_photos_pass_no_batch_whose_lease_is_running_out(tiny_version, left, passes):
    """A shop that saves without end would have it lose its photos and their tries, one after the other."""
    version = tiny_version()
    photo = _photos(1)[0]
    OutboxEntry.objects.update(priority=OutboxEntry.Priority.BACKFILL)
    (claim,) = outbox.claim(version.pk, 1, "me")
    saved = add_photo(photo.product, _jpeg(99), "new.jpg")
    ends = timezone.now() + timedelta(seconds=left * get_settings().lease_seconds)
    at_work = line.Line(version, line.DrainReport(), None, threading.Event(), lambda: None)
    try:
        batch = line._Batch([line._Photo(replace(claim, leased_until=ends))], computing=Future())
        batch.computing.set_result(None)
        at_work._let_saved_pass(batch)
    finally:
        at_work.threads.shutdown()
        at_work.network.shutdown()
    assert Embedding.objects.filter(image_id=saved.pk).exists() is passes


@pytest.mark.parametrize("fault", [OperationalError("away"), RuntimeError("broken")], ids=["away", "broken"])
def test_what_overtakes_a_batch_is_given_back_with_it(tiny_version, monkeypatch, fault):
    version = tiny_version()
    photos = _photos(12)
    OutboxEntry.objects.update(priority=OutboxEntry.Priority.BACKFILL)
    loaded = embedder.get_embedder(version)
    step, has_saved = loaded._step, outbox.has_saved
    saved = []

    def compute(batch):
        while threading.current_thread().name.startswith("shop-similarity-network") and not saved:
            time.sleep(0.01)
        return step(batch)

    def save_one(version_id):
        saved.extend([] if saved else [add_photo(photos[0].product, _jpeg(99), "new.jpg").pk])
        return has_saved(version_id)

    def finish(self, batch):
        if [photo.claim.image_id for photo in batch.photos] == saved:
            raise fault
        return whole(self, batch)

    whole = line.Line._finish
    monkeypatch.setattr(line, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(loaded, "_step", compute)
    monkeypatch.setattr(outbox, "has_saved", save_one)
    monkeypatch.setattr(line.Line, "_finish", finish)
    with pytest.raises(type(fault)):
        drain()
    assert set(_unsettled()) == {*saved, *(photo.pk for photo in photos[4:])}
    assert not OutboxEntry.objects.exclude(leased_until=None).exists(), "they wait for no lease"
    assert not loaded._ahead


def test_a_line_that_is_stopped_leaves_nothing_computed_ahead_behind(tiny_version, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "BATCH_SIZE": 2}
    version = tiny_version()
    _photos(6)
    stop = threading.Event()
    report = drain(progress=lambda report: stop.set(), stop=stop)
    assert report.embedded == 2
    assert not embedder.get_embedder(version)._ahead
    assert set(_unsettled().values()) == {0} and len(_unsettled()) == 4


# --- every step, every kind ---


class _Trap:
    """Raises in a step as often as it meets one photo there."""

    def __init__(self, photo: ProductPhoto, error: Exception) -> None:
        self.photo, self.error, self.met = photo, error, 0

    def spring(self, image_ids) -> None:
        if self.photo.pk in image_ids:
            self.met += 1
            raise self.error


def _spring_at(step: str, trap: _Trap, monkeypatch) -> None:
    if step == "look up":
        inner = line.Line._look_up

        def look_up(self, batch, photos):
            trap.spring([photo.claim.image_id for photo in photos])
            return inner(self, batch, photos)

        monkeypatch.setattr(line.Line, "_look_up", look_up)
    elif step == "read":
        mark = line.file_mark

        def file_mark(storage, name):
            trap.spring([trap.photo.pk] if name == trap.photo.file.name else [])
            return mark(storage, name)

        monkeypatch.setattr(line, "file_mark", file_mark)
    elif step == "vectors of contents":
        known = line.vectors_of_contents
        monkeypatch.setattr(
            line, "vectors_of_contents", lambda version, photos: trap.spring(_ids(photos)) or known(version, photos)
        )
    elif step == "network":
        embed = embedder.Embedder.embed
        poison = _prepared(2)
        monkeypatch.setattr(
            embedder.Embedder,
            "embed",
            lambda self, photos: (
                trap.spring([trap.photo.pk] if any(np.array_equal(each, poison) for each in photos) else [])
                or embed(self, photos)
            ),
        )
    else:
        write = line.write_embeddings
        monkeypatch.setattr(
            line,
            "write_embeddings",
            lambda version, photos: trap.spring([each.row.image_id for each in photos]) or write(version, photos),
        )


def _ids(by_digest) -> list[int]:
    return [photo.claim.image_id for photo in by_digest.values()]


FAULTS = {
    "a bug": RuntimeError("out of order"),
    "a value": DataError("value too long"),
    "unprintable": RuntimeError("nul \0 and surrogate \udcff"),
}
STEPS = ["look up", "read", "vectors of contents", "network", "write"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_a_fault_counts_a_try_of_its_photo_alone_wherever_it_comes(
    tiny_version, monkeypatch, settings, caplog, step, fault
):
    # What cannot be printed can't be sent by a process of tests to the one that reports either.
    caplog.set_level(logging.CRITICAL, "shop_similarity")
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MAX_ATTEMPTS": 2}
    tiny_version()
    photos = _photos(4)
    trap = _Trap(photos[2], FAULTS[fault])
    _spring_at(step, trap, monkeypatch)
    report = drain()
    assert (report.embedded, report.retried, report.failed) == (3, 1, 0)
    assert _unsettled() == {photos[2].pk: 1}
    OutboxEntry.objects.update(due_at=None)
    assert drain().failed == 1
    entry = OutboxEntry.objects.get()
    assert entry.failed_at is not None
    assert "Given up after 2 tries" in entry.last_error
    assert not outbox.has_due()


AWAY = {"away": OperationalError("server closed the connection"), "closed": InterfaceError("connection already closed")}


@pytest.mark.parametrize("fault", AWAY)
@pytest.mark.parametrize("step", ["look up", "vectors of contents", "write"])
def test_a_database_that_is_away_uses_up_no_try(tiny_version, monkeypatch, step, fault):
    tiny_version()
    photos = _photos(6)
    with monkeypatch.context() as patched:
        _spring_at(step, _Trap(photos[2], AWAY[fault]), patched)
        for _round in range(7):
            with pytest.raises(type(AWAY[fault])):
                drain()
    assert set(_unsettled().values()) == {0}
    assert drain().embedded == 6


@pytest.mark.parametrize("comes_back", ["at once", "later"])
def test_a_connection_cut_in_the_middle_of_writing_uses_up_no_try_and_the_photos_wait_for_no_lease(
    tiny_version, monkeypatch, comes_back
):
    tiny_version()
    _photos(6)
    inner = line.write_embeddings

    def cut(version, photos):
        from shop_similarity.embedding import writing

        to_binary = writing.HalfVector.to_binary

        def kill(self):
            # Another session ends this one, in the middle of COPY.
            import psycopg

            settings = connection.get_connection_params()
            settings.pop("cursor_factory", None)
            settings.pop("context", None)
            pid = connection.connection.info.backend_pid
            with psycopg.connect(**settings, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            return to_binary(self)

        with monkeypatch.context() as patched:
            patched.setattr(writing.HalfVector, "to_binary", kill)
            return inner(version, photos)

    with monkeypatch.context() as patched:
        patched.setattr(line, "write_embeddings", cut)
        if comes_back == "later":

            def refuse(*arguments, **options):
                raise OperationalError("connection refused")

            patched.setattr(outbox, "release", refuse)
        with pytest.raises((OperationalError, InterfaceError)):
            drain()
    connection.close()
    held = OutboxEntry.objects.filter(leased_until__isnull=False).count()
    assert (held, set(_unsettled().values())) == ((6, {1}) if comes_back == "later" else (0, {0}))
    assert drain().embedded == 6
    assert not OutboxEntry.objects.exists()


def test_what_was_kept_is_not_taken_from_a_worker_that_claimed_it_meanwhile(tiny_version):
    version = tiny_version()
    _photos(2)
    line._kept_claims.extend(outbox.claim(version.pk, 2, "this worker, whose lease ended"))
    OutboxEntry.objects.update(claimed_by="another|1|x", attempts=2)
    line.give_back_kept()
    assert OutboxEntry.objects.filter(claimed_by="another|1|x", attempts=2, leased_until__isnull=False).count() == 2


def test_a_photo_that_was_counted_stays_counted_when_the_database_goes_away_after_it(tiny_version, monkeypatch):
    tiny_version()
    photos = _photos(4)
    _spring_at("network", _Trap(photos[2], RuntimeError("out of order")), monkeypatch)
    inner = line.write_embeddings

    def write(version, items):
        if items[0].row.image_id == photos[3].pk:
            raise OperationalError("gone")
        return inner(version, items)

    monkeypatch.setattr(line, "write_embeddings", write)
    with pytest.raises(OperationalError):
        drain()
    assert _unsettled() == {photos[2].pk: 1, photos[3].pk: 0}
    assert OutboxEntry.objects.get(image_id=photos[2].pk).due_at is not None


def test_a_photo_that_the_shop_goes_on_changing_is_not_embedded_for_ever(tiny_version, monkeypatch, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MAX_ATTEMPTS": 2}
    tiny_version()
    (photo,) = _photos(1)
    inner = line.write_embeddings

    def write(version, items):
        ProductPhoto.objects.filter(pk=photo.pk).update(product=make_product())
        return inner(version, items)

    monkeypatch.setattr(line, "write_embeddings", write)
    drain()
    assert _unsettled() == {photo.pk: 1}
    OutboxEntry.objects.update(due_at=None)
    assert drain().failed == 1


# --- statistics ---


def test_postgres_is_told_of_a_version_that_it_knows_nothing_of(tiny_version, monkeypatch):
    monkeypatch.setattr("shop_similarity.embedding.planner_statistics._MANY", 2)
    monkeypatch.setattr("shop_similarity.embedding.planner_statistics._TIMES", 1)
    tiny_version()
    _photos(6)

    def known() -> float:
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [Embedding._meta.db_table])
            return cursor.fetchone()[0]

    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {Embedding._meta.db_table}")
    assert known() == 0
    assert drain().embedded == 6
    # After the first batch; autovacuum would wait for a tenth of the table.
    assert known() == 4
