"""Workers that are asked to end do so in their time: after the batch, or without what they can't finish."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.models import ProductPhoto
from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.models import Embedding, OutboxEntry
from shop_similarity.workers import ending
from tests.shop_similarity.factories import add_photo, make_photos_without_files, make_product, make_version
from tests.support.waiting import wait_until
from tests.workers.test_worker_process import _jpeg


def _until(condition: Callable[[], object], worker) -> None:
    wait_until(condition, lambda: worker.log)


def _environment(**values) -> dict[str, str]:
    quiet = {"POLL_SECONDS": 0.2, "SWEEP_SECONDS": 0, "SWEEP_FILES_SECONDS": 0}
    return {"SHOP_TEST_SIMILARITY": json.dumps({**quiet, **values})}


@pytest.mark.django_db
def test_what_a_worker_holds_is_given_back_with_its_tries_uncounted_and_nothing_else():
    version = make_version()
    photos = make_photos_without_files([make_product()], 4)
    rows = [ImageRow(photo.pk, photo.product_id, photo.file.name) for photo in photos]
    outbox.enqueue(version.pk, rows)
    mine, other = outbox.claim(version.pk, 2, "mine"), outbox.claim(version.pk, 1, "other")
    assert (len(mine), len(other)) == (2, 1)
    assert outbox.release_all("mine") == 2
    entries = OutboxEntry.objects.order_by("id").values_list("claimed_by", "attempts")
    assert list(entries) == [("", 0), ("", 0), ("other", 1), ("", 0)]


@pytest.mark.django_db
@pytest.mark.parametrize("stream", [None, "broken"])
def test_a_worker_ends_wherever_its_output_goes(monkeypatch, stream):
    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", stream and Broken())
    monkeypatch.setattr(ending, "_give_back", lambda: None)
    ended: list[int] = []
    ending._end_at(0, ended.append)
    assert ended == [0]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_nobody_asked_to_end_goes_on(tiny_version, celery_worker_process):
    version = tiny_version()
    # Celery's solo pool says of itself that it is a child.
    worker = celery_worker_process("--pool", "solo", env=_environment(SHUTDOWN_SECONDS=1))
    time.sleep(3)
    photo = add_photo(make_product(), _jpeg(1))
    _until(lambda: Embedding.objects.filter(version=version, image_id=photo.pk).exists(), worker)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_storage_that_hangs_holds_up_no_shutdown(pool, tiny_version, celery_worker_process):
    tiny_version()
    product = make_product()
    add_photo(product, _jpeg(1))
    hanging = add_photo(make_product(), _jpeg(2), "hanging.jpg")
    storage = ProductPhoto._meta.get_field("file").storage
    path = Path(storage.path(hanging.file.name))
    path.unlink()
    # Who opens it waits until somebody writes into it, as into a file of a server that is away.
    os.mkfifo(path)
    try:
        worker = celery_worker_process("--pool", pool, env=_environment(SHUTDOWN_SECONDS=6))
        _until(lambda: OutboxEntry.objects.filter(leased_until__isnull=False).exists(), worker)
        time.sleep(1)
        began = time.monotonic()
        assert worker.stop(timeout=30) == 0
        print(f"ended after {time.monotonic() - began:.1f} s")
        assert time.monotonic() - began < 8
        entries = OutboxEntry.objects.filter(image_id=hanging.pk)
        assert list(entries.values_list("claimed_by", "attempts", "leased_until")) == [("", 0, None)]
        if pool == "threads":
            assert "ends before it was done, and gave" in worker.log
    finally:
        path.unlink()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_pool_of_processes_ends_after_the_batch(tiny_version, celery_worker_process):
    tiny_version()
    for number in range(300):
        add_photo(make_product(), _jpeg(number), f"{number}.jpg")
    worker = celery_worker_process("--pool", "processes", "--concurrency", "1", env=_environment(BATCH_SIZE=4))
    _until(lambda: Embedding.objects.count() > 4, worker)
    began = time.monotonic()
    # Before, it embedded all that waited first, however much that was.
    assert worker.stop(timeout=60) == 0
    print(f"ended after {time.monotonic() - began:.1f} s")
    left = OutboxEntry.objects.count()
    assert left > 200
    assert not OutboxEntry.objects.filter(leased_until__isnull=False).exists()
    assert Embedding.objects.count() + left == 300
