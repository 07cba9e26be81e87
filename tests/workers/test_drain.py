"""Draining the outbox in this process, with a real network and a real Postgres."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import io
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.db import connections, transaction
from django.utils import timezone, translation
from PIL import Image

from catalog.models import ProductPhoto
from shop_similarity import database
from shop_similarity.embedding import outbox
from shop_similarity.embedding.reembedding import reembed
from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry
from shop_similarity.photos import decoder_pool
from shop_similarity.photos.decoding import ImageError, open_image
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.workers import embedder
from shop_similarity.workers.drain import drain
from shop_similarity.workers.embedder import get_embedder
from tests.relation_shops.models import Bowl
from tests.relation_shops.models import Image as SharedImage
from tests.relation_shops.shops import the_shop
from tests.shop_similarity.factories import add_photo, make_product
from tests.shop_similarity.photos.bad_files import slow_photo
from tests.shop_similarity.photos.odd_storage import FORBIDDEN, GONE, NO_KEY, OUTSIDE, SLOW_DOWN, make_odd

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _small_batches(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "BATCH_SIZE": 4}
    embedder.release_embedder()
    yield
    embedder.release_embedder()


def _jpeg(seed: int, size: tuple[int, int] = (48, 48), **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, options.pop("format", "JPEG"), **options)
    return buffer.getvalue()


def _encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_everything_that_waits_is_embedded_once(tiny_version):
    version = tiny_version()
    product = make_product()
    photos = [add_photo(product, _jpeg(seed), f"{seed}.jpg") for seed in range(11)]
    report = drain()
    assert (report.embedded, report.failed) == (11, 0)
    rows = Embedding.objects.defer(None).filter(version=version)
    assert {row.image_id for row in rows} == {photo.pk for photo in photos}
    lengths = np.linalg.norm([row.vector for row in rows], axis=1)
    assert np.allclose(lengths, 1, atol=1e-2)
    assert not OutboxEntry.objects.exists()
    assert drain().settled == 0


def test_shared_images_are_embedded_for_each_product_and_files_that_are_no_photos_never_fail(tiny_version):
    with the_shop("Bowl", "photos.file", IMAGE_FILTER={"image__title": ""}):
        version = tiny_version()
        shared, manual = SharedImage.objects.create(), SharedImage.objects.create(title="manual")
        shared.file.save("shared.jpg", ContentFile(_jpeg(1)))
        manual.file.save("manual.pdf", ContentFile(b"%PDF-1.7"))
        bowls = [Bowl.objects.create() for _ in range(2)]
        for bowl in bowls:
            bowl.photos.set([shared, manual])
        report = drain()
        assert (report.embedded + report.copied, report.failed) == (2, 0)
        assert set(Embedding.objects.values_list("product_id", flat=True)) == {bowl.pk for bowl in bowls}
        # The shared file is written anew.
        before = set(Embedding.objects.values_list("content_sha256", flat=True))
        shared.file.save("shared.jpg", ContentFile(_jpeg(2)))
        report = drain()
        assert (report.embedded, report.copied) == (1, 1)
        assert before.isdisjoint(Embedding.objects.filter(version=version).values_list("content_sha256", flat=True))
        shared.delete()
        assert not Embedding.objects.exists()


def test_a_partial_batch_is_embedded_like_a_full_one(tiny_version):
    version = tiny_version()
    product = make_product()
    lone = add_photo(product, _jpeg(1), "lone.jpg")
    drain()
    alone = np.array(Embedding.objects.defer(None).get(image_id=lone.pk).vector)
    Embedding.objects.all().delete()
    for seed in range(2, 5):
        add_photo(product, _jpeg(seed), f"{seed}.jpg")
    sweep(files=False)
    drain()
    together = np.array(Embedding.objects.defer(None).get(image_id=lone.pk, version=version).vector)
    assert float(alone @ together) == pytest.approx(1, abs=1e-3)


def test_same_bytes_are_computed_once(tiny_version, monkeypatch):
    tiny_version()
    computed = []
    inner = embedder.Embedder.embed
    monkeypatch.setattr(
        embedder.Embedder, "embed", lambda self, photos: computed.append(len(photos)) or inner(self, photos)
    )
    for number in range(6):
        add_photo(make_product(), _jpeg(1), f"{number}.jpg")
    report = drain()
    assert sum(computed) == 1
    assert (report.embedded, report.copied) == (1, 5)
    assert len({tuple(row.vector) for row in Embedding.objects.defer(None)}) == 1
    photo = ProductPhoto.objects.first()
    photo.file.save("written-again.jpg", ContentFile(_jpeg(1)))
    assert drain().unchanged == 1
    assert sum(computed) == 1
    assert Embedding.objects.get(image_id=photo.pk).file_name == photo.file.name


def test_bytes_that_another_version_has_are_computed(tiny_version):
    old = tiny_version()
    add_photo(make_product(), _jpeg(1))
    drain()
    new = tiny_version("new", state="candidate", seed=8)
    sweep(files=False)
    report = drain()
    assert (report.embedded, report.copied) == (1, 0)
    rows = {row.version_id: tuple(row.vector) for row in Embedding.objects.defer(None)}
    assert rows[old.pk] != rows[new.pk]


def test_photo_that_is_to_be_embedded_anew_is_no_copy_of_itself(tiny_version):
    tiny_version()
    photo = add_photo(make_product(), _jpeg(1))
    drain()
    reembed([photo.product_id])
    assert drain().embedded == 1
    assert Embedding.objects.get().content_sha256 != ""


@pytest.mark.django_db(transaction=True)
def test_drains_that_compute_the_same_bytes_at_once_embed_every_photo_once(tiny_version, monkeypatch):
    version = tiny_version()
    for number in range(16):
        add_photo(make_product(), _jpeg(number % 2), f"{number}.jpg")
    inner, both = embedder.Embedder.embed, threading.Barrier(2)

    def together(self, photos):
        # The first batches are computed at the same moment, each of the same two pictures.
        if not both.broken:
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(5)
        return inner(self, photos)

    monkeypatch.setattr(embedder.Embedder, "embed", together)
    reports = []

    def work() -> None:
        try:
            reports.append(drain())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.embedded for report in reports] == [2, 2]
    assert sum(report.copied for report in reports) == 12
    assert Embedding.objects.filter(version=version).count() == 16
    assert not OutboxEntry.objects.exists()
    by_content = {}
    for row in Embedding.objects.defer(None):
        by_content.setdefault(row.content_sha256, []).append(np.array(row.vector))
    assert len(by_content) == 2
    for vectors in by_content.values():
        assert np.allclose(np.array(vectors) @ vectors[0], 1, atol=1e-3)


def test_replaced_photo_gets_a_new_vector(tiny_version):
    tiny_version()
    photo = add_photo(make_product(), _jpeg(1))
    drain()
    before = Embedding.objects.defer(None).get().vector
    photo.file.save("new.jpg", ContentFile(_jpeg(2)))
    drain()
    row = Embedding.objects.defer(None).get()
    assert row.vector != before
    assert row.file_name == photo.file.name


def test_photo_moved_to_another_product_is_found_there(tiny_version):
    tiny_version()
    photo = add_photo(make_product(), _jpeg(1))
    drain()
    photo.product = make_product()
    photo.save()
    assert drain().unchanged == 1
    assert Embedding.objects.get().product_id == photo.product_id


BAD = {
    "truncated": (_jpeg(3, (400, 400))[:-4000], "t.jpg", "cut off|damaged|incomplete|ends"),
    "text": (
        b"This is a letter and not a picture.\n" * 50,
        "letter.jpg",
        "not (a picture|an image)|no (image|picture)",
    ),
    "empty": (b"", "empty.jpg", "empty"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "drawing.jpg", "SVG"),
    "bomb": (_encoded(Image.new("1", (12_000, 12_000)), "PNG"), "bomb.png", "pixels"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_photo_fails_at_once_with_a_sentence_and_holds_nobody_up(tiny_version, case):
    tiny_version()
    content, name, sentence = BAD[case]
    product = make_product()
    bad = add_photo(product, content, name)
    good = [add_photo(product, _jpeg(seed), f"{seed}.jpg") for seed in range(3)]
    report = drain()
    assert (report.embedded, report.failed) == (3, 1)
    entry = OutboxEntry.objects.get()
    assert (entry.image_id, entry.attempts) == (bad.pk, 1)
    assert re.search(sentence, entry.last_error), entry.last_error
    assert set(Embedding.objects.values_list("image_id", flat=True)) == {photo.pk for photo in good}
    # The sweep leaves it alone until it has changed.
    assert sweep(files=True).enqueued == 0
    bad.file.save("better.jpg", ContentFile(_jpeg(9)))
    drain()
    assert not OutboxEntry.objects.exists()
    assert Embedding.objects.count() == 4


def test_photo_that_takes_too_long_to_decode_fails_alone(tiny_version, settings, monkeypatch):
    monkeypatch.setattr(decoder_pool, "GRACE_SECONDS", 300)
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DECODE_SECONDS": 0.1}
    tiny_version()
    product = make_product()
    slow = add_photo(product, slow_photo(7_000), "slow.jpg")
    for seed in range(3):
        add_photo(product, _jpeg(seed), f"{seed}.jpg")
    report = drain()
    assert (report.embedded, report.failed) == (3, 1)
    entry = OutboxEntry.objects.get()
    assert entry.image_id == slow.pk
    assert "more than 0.1 seconds" in entry.last_error


def test_photo_waits_where_no_process_can_decode_it(tiny_version, monkeypatch):
    tiny_version()
    monkeypatch.setattr(decoder_pool, "_pool", decoder_pool.DecoderPool(2))
    with monkeypatch.context() as patch:
        patch.setattr(decoder_pool, "_interpreter", lambda: "/nowhere/python")
        add_photo(make_product(), _jpeg(1))
        report = drain()
    assert (report.embedded, report.failed, report.retried) == (0, 0, 1)
    assert "No process to decode photos could be started" in OutboxEntry.objects.get().last_error
    OutboxEntry.objects.update(due_at=timezone.now())
    assert drain().embedded == 1


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(_jpeg(5, (60, 30))))
    return _encoded(image, "JPEG", exif=exif, quality=95)


GOOD = {
    "cmyk.jpg": lambda image: _encoded(image.convert("CMYK"), "JPEG"),
    "palette.png": lambda image: _encoded(image.convert("P"), "PNG", transparency=0),
    "grey16.png": lambda image: _encoded(
        Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16)) * 257), "PNG"
    ),
    "alpha.webp": lambda image: _encoded(image.convert("RGBA"), "WEBP"),
    "animated.gif": lambda image: _encoded(
        image, "GIF", save_all=True, append_images=[Image.new("RGB", image.size, "red")] * 5
    ),
    "rotated.jpg": lambda image: _rotated(),
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_photos_are_embedded(tiny_version, name):
    tiny_version()
    image = Image.open(io.BytesIO(_jpeg(4)))
    add_photo(make_product(), GOOD[name](image), name)
    report = drain()
    assert (report.embedded, report.failed) == (1, 0), OutboxEntry.objects.values_list("last_error")


def test_rotated_photo_is_embedded_upright(tiny_version):
    tiny_version()
    upright = Image.open(io.BytesIO(_jpeg(5, (60, 30)))).transpose(Image.Transpose.ROTATE_270)
    first = add_photo(make_product(), _rotated(), "rotated.jpg")
    second = add_photo(make_product(), _encoded(upright, "JPEG", quality=95), "upright.jpg")
    third = add_photo(make_product(), _jpeg(5, (60, 30)), "lying.jpg")
    drain()
    vectors = {row.image_id: np.array(row.vector) for row in Embedding.objects.defer(None)}
    assert vectors[first.pk] @ vectors[second.pk] > 0.999
    assert vectors[first.pk] @ vectors[second.pk] > vectors[first.pk] @ vectors[third.pk]


def test_missing_file_fails_with_a_sentence_and_is_taken_up_when_it_appears(tiny_version):
    tiny_version()
    photo = add_photo(make_product(), _jpeg(1))
    content = photo.file.read()
    photo.file.close()
    photo.file.storage.delete(photo.file.name)
    assert drain().failed == 1
    assert "is not in the storage" in OutboxEntry.objects.get().last_error
    assert photo.file.storage.save(photo.file.name, ContentFile(content)) == photo.file.name
    assert sweep(files=True).enqueued == 1
    assert drain().embedded == 1
    assert not OutboxEntry.objects.exists()


def test_passing_fault_of_the_storage_is_tried_again(tiny_version, monkeypatch):
    tiny_version()
    add_photo(make_product(), _jpeg(1))
    with monkeypatch.context() as patched:

        def broken(self, name, mode="rb"):
            raise ConnectionResetError("the storage hung up")

        patched.setattr(FileSystemStorage, "_open", broken)
        report = drain()
    assert (report.retried, report.failed) == (1, 0)
    assert "the storage hung up" in OutboxEntry.objects.get().last_error
    OutboxEntry.objects.update(due_at=None)
    assert drain().embedded == 1


def test_photo_that_the_network_chokes_on_does_not_take_its_batch_along(tiny_version, monkeypatch):
    tiny_version()
    photos = [add_photo(make_product(), _jpeg(seed), f"{seed}.jpg") for seed in range(4)]
    inner = embedder.Embedder.embed
    poison = embedder.Preprocessing(size=32).prepare(Image.open(io.BytesIO(_jpeg(2))))

    def choking(self, pixels):
        if any(np.array_equal(item, poison) for item in pixels):
            raise RuntimeError("out of memory")
        return inner(self, pixels)

    monkeypatch.setattr(embedder.Embedder, "embed", choking)
    report = drain()
    assert (report.embedded, report.retried) == (3, 1)
    entry = OutboxEntry.objects.get()
    assert entry.image_id == photos[2].pk
    assert "out of memory" in entry.last_error


def test_photo_deleted_while_it_waits_is_forgotten(tiny_version):
    tiny_version()
    photo = add_photo(make_product(), _jpeg(1))
    database.raw_delete(ProductPhoto.objects.filter(pk=photo.pk))
    assert drain().gone == 1
    assert not OutboxEntry.objects.exists()


def test_every_live_version_gets_its_embedding_and_the_active_one_first(tiny_version):
    candidate = tiny_version("candidate", state="candidate")
    active = tiny_version("active")
    for seed in range(5):
        add_photo(make_product(), _jpeg(seed), f"{seed}.jpg")
    order = []
    drain(progress=lambda _report: order.append(Embedding.objects.order_by("-pk")[0].version_id))
    assert order == sorted(order, key=[active.pk, candidate.pk].index)
    assert Embedding.objects.filter(version=active).count() == 5
    assert Embedding.objects.filter(version=candidate).count() == 5


def test_stop_ends_after_the_batch_and_gives_claims_back(tiny_version):
    tiny_version()
    for seed in range(12):
        add_photo(make_product(), _jpeg(seed), f"{seed}.jpg")
    stop = threading.Event()
    report = drain(progress=lambda _report: stop.set(), stop=stop)
    assert report.embedded == 4
    assert OutboxEntry.objects.filter(leased_until__isnull=True, attempts=0).count() == 8
    assert outbox.has_due()


def test_weights_that_were_exchanged_are_not_loaded_and_cost_no_photo_a_try(tiny_version):
    version = tiny_version()
    weights = Path(version.weights.path)
    content = weights.read_bytes()
    weights.write_bytes(content + b"!")
    add_photo(make_product(), _jpeg(1))
    report = drain()
    assert "sha256" in report.unusable["tiny"]
    assert OutboxEntry.objects.get().attempts == 0
    assert not Embedding.objects.exists()
    weights.write_bytes(content)
    assert drain().embedded == 1


def _failing_reads(monkeypatch, fails) -> None:
    """Have reads of the storage fail: ``fails`` is asked with the name of the file and how often it was read."""
    reads: collections.Counter = collections.Counter()
    inner = FileSystemStorage._open

    def read(self, name, mode="rb"):
        reads[name] += 1
        if fails(Path(name).stem, reads[name]):
            raise ConnectionResetError("the storage hung up")
        return inner(self, name, mode)

    monkeypatch.setattr(FileSystemStorage, "_open", read)


def test_storage_that_fails_now_and_then_costs_no_photo_a_try(tiny_version, monkeypatch):
    tiny_version()
    product = make_product()
    for seed in range(12):
        add_photo(product, _jpeg(seed), f"{seed}.jpg")
    get_embedder(ModelVersion.objects.get())
    _failing_reads(monkeypatch, lambda name, count: count == 1 and int(name) % 5 == 0)
    report = drain()
    assert (report.embedded, report.retried, report.failed) == (12, 0, 0)


def test_storage_that_was_away_until_the_tries_were_used_up_costs_no_photo(tiny_version, settings, monkeypatch):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MAX_ATTEMPTS": 2}
    tiny_version()
    photo = add_photo(make_product(), _jpeg(1))
    get_embedder(ModelVersion.objects.get())
    with monkeypatch.context() as patched:
        _failing_reads(patched, lambda _name, _count: True)
        for _ in range(2):
            drain()
            OutboxEntry.objects.update(due_at=None)
        assert "Given up after 2 tries" in OutboxEntry.objects.get().last_error
        # A sweep of the rows leaves it alone.
        assert sweep(files=False).enqueued == 0
    assert sweep(files=True).enqueued == 1
    assert drain().embedded == 1
    assert Embedding.objects.get().image_id == photo.pk
    assert not OutboxEntry.objects.exists()


def test_file_saved_anew_with_the_size_and_time_of_the_old_one_is_read(tiny_version, monkeypatch):
    tiny_version()
    # Shops that give no name twice do not meet this.
    field = ProductPhoto._meta.get_field("file")
    monkeypatch.setattr(field, "upload_to", lambda photo, name: f"products/{Path(name).name}")
    bitmaps = [_jpeg(seed, format="BMP") for seed in (1, 2)]
    assert len(bitmaps[0]) == len(bitmaps[1])
    photo = add_photo(make_product(), bitmaps[0], "photo.bmp")
    path = Path(photo.file.path)
    # Storages that tell whole seconds: both were written within one.
    os.utime(path, (1_000_000_000, 1_000_000_000))
    drain()
    before = Embedding.objects.defer(None).get()
    path.unlink()
    photo.file = ContentFile(bitmaps[1], path.name)
    photo.save()
    assert Path(photo.file.path) == path
    os.utime(path, (1_000_000_000, 1_000_000_000))
    drain()
    after = Embedding.objects.defer(None).get()
    assert after.file_mark == before.file_mark
    assert after.content_sha256 == hashlib.sha256(bitmaps[1]).hexdigest()
    assert after.vector != before.vector


@pytest.mark.django_db(transaction=True)
def test_drain_does_not_wait_for_rows_that_another_worker_is_claiming(tiny_version):
    tiny_version()
    add_photo(make_product(), _jpeg(1))
    ended = threading.Event()

    def work() -> None:
        try:
            drain()
            ended.set()
        finally:
            connections.close_all()

    with transaction.atomic():
        # A worker that is stopped in the middle of its claim.
        assert list(OutboxEntry.objects.select_for_update())
        thread = threading.Thread(target=work)
        thread.start()
        # Once the network is loaded, there is nothing to do but to look again and again.
        assert ended.wait(60)
    thread.join()
    assert drain().embedded == 1


def test_what_a_storage_raises_for_one_photo_is_one_photos(tiny_version, monkeypatch):
    tiny_version()
    errors = {"404": GONE, "key": NO_KEY, "outside": OUTSIDE, "403": FORBIDDEN, "slow": SLOW_DOWN}
    product = make_product()
    photos = {name: add_photo(product, _jpeg(seed), f"{name}.jpg") for seed, name in enumerate([*errors, "a", "b"])}
    make_odd(monkeypatch, {photos[name].file.name: error for name, error in errors.items()})
    report = drain()
    assert (report.embedded, report.failed, report.retried) == (2, 3, 2)
    entries = {entry.image_id: entry for entry in OutboxEntry.objects.all()}
    assert all(entries[photos[name].pk].failed_at for name in ("404", "key", "outside"))
    assert "ListBucket" in entries[photos["403"].pk].last_error
    assert "SlowDown" in entries[photos["slow"].pk].last_error
    assert all(entries[photos[name].pk].due_at and entries[photos[name].pk].attempts == 1 for name in ("403", "slow"))


def test_sentences_that_are_stored_are_in_no_workers_language(tiny_version, settings):
    settings.LANGUAGE_CODE = "de"
    tiny_version()
    product = make_product()
    gone, damaged = add_photo(product, _jpeg(1), "gone.jpg"), add_photo(product, b"no photo", "damaged.jpg")
    gone.file.storage.delete(gone.file.name)
    with translation.override("de"):
        assert drain().failed == 2
        errors = {entry.image_id: entry.last_error for entry in OutboxEntry.objects.all()}
        assert translation.get_language() == "de"
    assert "is not in the storage. Upload the photo again." in errors[gone.pk]
    with translation.override("en"), pytest.raises(ImageError) as caught:
        open_image(b"no photo", catalogue_limits())
    with translation.override("en"):
        assert errors[damaged.pk] == str(caught.value)
