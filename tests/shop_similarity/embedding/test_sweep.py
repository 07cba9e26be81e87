"""The sweep finds what signals can't see."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, connections
from django.utils import timezone

from catalog.models import ProductPhoto
from shop_similarity import database
from shop_similarity.embedding import outbox
from shop_similarity.embedding.sweep import due_sweep, sweep
from shop_similarity.models import Embedding, OutboxEntry, SweepRun
from shop_similarity.photos.file_marks import file_mark
from tests.shop_similarity.factories import (
    add_photo,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.shop_similarity.photos.odd_storage import FORBIDDEN, GONE, OUTSIDE, SLOW_DOWN, make_odd
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


def _waiting() -> list:
    return sorted(OutboxEntry.objects.filter(failed_at__isnull=True).values_list("image_id", flat=True))


def test_bulk_created_photos_are_queued_once():
    make_version()
    photos = make_photos_without_files([make_product(), make_product()], 2)
    assert sweep(files=False).enqueued == 4
    assert _waiting() == sorted(photo.pk for photo in photos)
    assert sweep(files=False).enqueued == 0


def test_photos_changed_by_update_are_queued():
    version = make_version()
    photos = make_photos_without_files([make_product()], 3)
    store_vectors(version, photos, random_vectors(3))
    ProductPhoto.objects.filter(pk=photos[0].pk).update(file="another.jpg")
    ProductPhoto.objects.filter(pk=photos[1].pk).update(product=make_product())
    assert sweep(files=False).enqueued == 2
    assert _waiting() == [photos[0].pk, photos[1].pk]


def test_rows_deleted_by_raw_sql_leave_no_embedding():
    version = make_version()
    photos = make_photos_without_files([make_product()], 2)
    store_vectors(version, photos, random_vectors(2))
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM catalog_productphoto WHERE id = %s", [photos[0].pk])
    assert sweep(files=False).removed == 1
    assert list(Embedding.objects.values_list("image_id", flat=True)) == [photos[1].pk]


def test_file_replaced_under_its_name_is_queued():
    version = make_version()
    photo = add_photo(make_product(), b"first")
    untouched = add_photo(make_product(), b"other")
    store_vectors(version, [photo, untouched], random_vectors(2))
    OutboxEntry.objects.all().delete()
    for row in (photo, untouched):
        Embedding.objects.filter(image_id=row.pk).update(file_mark=file_mark(row.file.storage, row.file.name))
    assert sweep(files=True).enqueued == 0
    Path(photo.file.path).write_bytes(b"Same1")
    os.utime(photo.file.path, (time.time() + 5, time.time() + 5))
    assert sweep(files=False).enqueued == 0
    assert sweep(files=True).enqueued == 1
    assert _waiting() == [photo.pk]


def test_failed_photo_waits_until_its_file_changes():
    version = make_version()
    photo = add_photo(make_product(), b"no picture")
    (claim,) = outbox.claim(version.pk, 1, "w")
    outbox.fail(
        claim, "No picture.", file_name=photo.file.name, file_mark=file_mark(photo.file.storage, photo.file.name)
    )
    assert sweep(files=True).enqueued == 0
    Path(photo.file.path).write_bytes(b"no picture!")
    assert sweep(files=True).enqueued == 1


def test_every_live_version_is_looked_after_in_small_steps(monkeypatch):
    monkeypatch.setattr("shop_similarity.embedding.sweep._CHUNK", 3)
    make_version()
    make_version("candidate", state="candidate")
    make_photos_without_files([make_product()], 10)
    assert sweep(files=False).enqueued == 20


def test_two_sweeps_at_once_do_the_work_of_one():
    make_version()
    make_photos_without_files([make_product()])
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with database.long_lock("sweep"):
                held.set()
                leave.wait(10)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    try:
        assert sweep(files=False).skipped
        assert _waiting() == []
    finally:
        leave.set()
        thread.join()
    assert sweep(files=False).enqueued == 1


def test_clock_of_the_sweep_is_shared_through_the_database(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "SWEEP_SECONDS": 60, "SWEEP_FILES_SECONDS": 600}
    assert due_sweep() == "files"
    sweep(files=True)
    assert due_sweep() is None
    SweepRun.objects.update(started_at=timezone.now() - timedelta(seconds=61))
    assert due_sweep() == "rows"
    SweepRun.objects.update(started_at=timezone.now() - timedelta(seconds=601))
    assert due_sweep() == "files"
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "SWEEP_SECONDS": 0, "SWEEP_FILES_SECONDS": 0}
    assert due_sweep() is None


def test_what_a_storage_raises_for_one_photo_is_one_photos(monkeypatch, caplog):
    version = make_version()
    photos = [add_photo(make_product(), b"content", f"{number}.jpg") for number in range(6)]
    OutboxEntry.objects.all().delete()
    store_vectors(version, photos, random_vectors(6))
    names = [photo.file.name for photo in photos]
    make_odd(monkeypatch, dict(zip(names, [FORBIDDEN, SLOW_DOWN, GONE, OUTSIDE, RuntimeError("odd")], strict=False)))
    # Those that no try can read go to the workers, who say so; the last one's file is another than was embedded.
    assert sweep(files=True).enqueued == 3
    assert set(_waiting()) == {photo.pk for photo in (photos[2], photos[3], photos[5])}
    assert "did not tell whether the files of 3 photos have changed" in caplog.text
    assert SweepRun.objects.get().finished_at is not None
