"""The sweep finds what signals can't see."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.files.storage import Storage
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import ProductPhoto
from shop_similarity import database
from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.embedding import sweep as sweeping
from shop_similarity.embedding.sweep import go_on, is_due, sweep
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry, SweepRun
from shop_similarity.photos.file_marks import file_mark
from shop_similarity.rollout.status import status
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


def _due() -> set[str]:
    return {name for name, files in (("rows", False), ("files", True)) if is_due(files=files)}


def test_clock_of_the_sweep_is_shared_through_the_database(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "SWEEP_SECONDS": 60, "SWEEP_FILES_SECONDS": 600}
    assert _due() == {"rows", "files"}
    sweep(files=True)
    assert _due() == set()
    SweepRun.objects.update(started_at=timezone.now() - timedelta(seconds=61))
    assert _due() == {"rows"}
    SweepRun.objects.update(started_at=timezone.now() - timedelta(seconds=601))
    assert _due() == {"rows", "files"}
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "SWEEP_SECONDS": 0, "SWEEP_FILES_SECONDS": 0}
    assert _due() == set()


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
    assert all(run.finished_at is not None for run in SweepRun.objects.all())


class _Kills(Exception):
    """As a worker that a deploy kills in the middle of a sweep."""


def _embedded_photos(count: int) -> tuple[ModelVersion, list[ProductPhoto]]:
    version = make_version()
    photos = make_photos_without_files([make_product()], count)
    store_vectors(version, photos, random_vectors(count))
    return version, photos


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Names of the files that a sweep asks the storage for; every file is as it was embedded."""
    names: list[str] = []
    monkeypatch.setattr(sweeping, "file_mark", lambda _storage, name: names.append(name) or "1:1")
    monkeypatch.setattr(sweeping, "_FILES_CHUNK", 3)
    monkeypatch.setattr(sweeping, "_NOTED_SECONDS", 0.0)
    return names


def test_a_sweep_of_the_files_that_is_killed_goes_on_where_it_was(asked, monkeypatch):
    _version, photos = _embedded_photos(10)
    note = sweeping._Walk._note

    def killed(self, **how) -> None:
        if len(asked) >= 6:
            raise _Kills
        note(self, **how)

    with monkeypatch.context() as patch, pytest.raises(_Kills):
        patch.setattr(sweeping._Walk, "_note", killed)
        go_on(files=True, stop=threading.Event())
    assert len(asked) == 6
    run = SweepRun.objects.get(with_files=True)
    assert (run.finished_at, run.cursor, run.examined) == (None, {"stage": "photos", "after": str(photos[2].pk)}, 3)
    # Whoever walks leaves a sign every few seconds; without one it is cut off, and due at once.
    assert not is_due(files=True)
    SweepRun.objects.update(seen_at=timezone.now() - timedelta(seconds=61))
    assert is_due(files=True)
    asked.clear()
    go_on(files=True, stop=threading.Event())
    assert asked == [photo.file.name for photo in photos[3:]], "no photo before its place is asked for anew"
    run.refresh_from_db()
    assert run.finished_at is not None and run.examined == 10
    assert not is_due(files=True)


def test_a_sweep_that_is_asked_to_end_keeps_its_place_and_frees_it(asked, monkeypatch):
    _version, photos = _embedded_photos(10)
    stop = threading.Event()

    def ask(_storage, name):
        asked.append(name)
        if len(asked) == 4:
            stop.set()
        return "1:1"

    monkeypatch.setattr(sweeping, "file_mark", ask)
    go_on(files=True, stop=stop)
    assert len(asked) == 4
    assert SweepRun.objects.get().cursor["after"] == str(photos[2].pk)
    assert is_due(files=True), "the next worker need not wait"
    go_on(files=True, stop=threading.Event())
    assert asked[4:] == [photo.file.name for photo in photos[3:]]


def test_rows_of_every_stage_are_walked_from_their_place(monkeypatch):
    monkeypatch.setattr(sweeping, "_CHUNK", 2)
    monkeypatch.setattr(sweeping, "_NOTED_SECONDS", 0.0)
    monkeypatch.setattr(sweeping, "_REST", 0)
    version, photos = _embedded_photos(7)
    make_version("second", "candidate")
    gone = ProductPhoto.objects.filter(pk__in=[photos[1].pk, photos[6].pk])
    gone._raw_delete(gone.db)
    outbox.enqueue(version.pk, [ImageRow(photos[6].pk, 1, "a.jpg")])
    # It is stopped after every single step, and gone on with.
    steps = 0
    while is_due(files=False):
        steps += 1
        stop = _AfterOneStep()
        go_on(files=False, stop=stop)
    assert steps > 7
    assert set(Embedding.objects.values_list("image_id", flat=True)) == {
        photo.pk for photo in photos if photo not in (photos[1], photos[6])
    }
    assert sorted(OutboxEntry.objects.values_list("version__name", "image_id")) == [
        ("second", photo.pk) for photo in photos if photo not in (photos[1], photos[6])
    ]
    run = SweepRun.objects.get()
    assert (run.examined, run.removed, run.enqueued) == (5, 2, 5)


class _AfterOneStep:
    """A stop that is set as soon as anybody waits for it."""

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        return True


@pytest.mark.django_db(transaction=True)
def test_rows_are_swept_while_the_files_are(asked, monkeypatch):
    _version, photos = _embedded_photos(4)
    at_it, leave = threading.Event(), threading.Event()

    def slow(_storage, name):
        at_it.set()
        leave.wait(30)
        return "1:1"

    monkeypatch.setattr(sweeping, "file_mark", slow)

    def walk() -> None:
        try:
            go_on(files=True, stop=threading.Event())
        finally:
            connections.close_all()

    thread = threading.Thread(target=walk)
    thread.start()
    try:
        assert at_it.wait(30)
        ProductPhoto.objects.filter(pk=photos[0].pk).update(file="another.jpg")
        assert is_due(files=False)
        assert go_on(files=False, stop=threading.Event()).enqueued == 1
        assert [(run["with_files"], run["examined"]) for run in status()["sweeps"]] == [(True, 0)]
    finally:
        leave.set()
        thread.join()


class _Remote(Storage):
    """A storage that is no folder, which takes its time."""

    def __init__(self) -> None:
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def size(self, name: str) -> int:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.01)
        with self.lock:
            self.at_once -= 1
        return 1

    def get_modified_time(self, name: str) -> datetime:
        return datetime.fromtimestamp(1, UTC)


def test_a_remote_storage_is_asked_several_times_at_once_within_bounds():
    remote = _Remote()
    questions = sweeping._Questions(remote, lambda: None)
    rows = [ImageRow(number, 1, f"{number}.jpg") for number in range(40)]
    assert list(questions.marks(rows)) == [(row, "1:1.000000") for row in rows]
    questions.close()
    assert 2 <= remote.most <= sweeping._REQUESTS


def test_no_step_of_a_sweep_reads_more_rows_than_it_is_long(monkeypatch):
    monkeypatch.setattr(sweeping, "_CHUNK", 5)
    monkeypatch.setattr(sweeping, "_REST", 0)
    _embedded_photos(40)
    with CaptureQueriesContext(connection) as queries:
        go_on(files=False, stop=threading.Event())
    tables = [Embedding._meta.db_table, ProductPhoto._meta.db_table]
    read = [
        query["sql"]
        for query in queries
        if query["sql"].startswith("SELECT") and any(t in query["sql"] for t in tables)
    ]
    assert len(read) > 16
    assert all("LIMIT 5" in sql or " IN (" in sql for sql in read), read
