"""Jobs of a worker do not wait for each other, and one worker process alone does all of them."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from catalog.models import ProductPhoto
from shop_similarity.embedding.index import drop_index, index_state
from shop_similarity.models import Embedding, EventDay, OutboxEntry, SweepRun
from shop_similarity.workers import clock, embedder, jobs, signals, visual_queries
from shop_similarity.workers import drain as draining
from shop_similarity.workers import rollout as worker_rollout
from shop_similarity.workers.jobs import Job
from shop_similarity.workers.line import DrainReport
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import add_photo, make_photos_without_files, make_product, make_version
from tests.shop_similarity.feedback.lists import show
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def _not_stopping():
    jobs.stopping.clear()
    yield
    jobs.stopping.clear()


@pytest.fixture
def worker(settings, transactional_db):
    """Starts what a worker process of threads starts, in this process."""
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "POLL_SECONDS": 0.05, "INDEX_ROWS": 2}
    app = SimpleNamespace(conf={signals._SERVES: True})
    look_after = draining._look_after
    yield lambda: signals._Work(None).start(SimpleNamespace(app=app, pool=object()))
    jobs.stopping.set()
    clock.join()
    visual_queries.join()
    draining._look_after = look_after


class Blocked:
    """Work that lasts until it is let go."""

    def __init__(self) -> None:
        self.times = 0
        self.begun, self.leave = threading.Event(), threading.Event()

    def __call__(self, *args: object, **how: object) -> DrainReport:
        self.times += 1
        self.begun.set()
        assert self.leave.wait(60)
        return DrainReport()


@pytest.fixture
def blocked():
    work = Blocked()
    yield work
    work.leave.set()


def test_whoever_begins_a_job_does_not_wait_and_is_heard_once_more(blocked):
    job = Job("test", blocked)
    job.begin()
    assert blocked.begun.wait(10)
    for _ in range(3):
        job.begin()
    blocked.leave.set()
    wait_until(lambda: job._thread is None)
    assert blocked.times == 2
    job.begin()
    wait_until(lambda: blocked.times == 3)
    job.join(10)


def test_a_job_that_fails_is_logged_once_and_rests(caplog, monkeypatch):
    tries = []

    def fail() -> None:
        tries.append(1)
        raise RuntimeError("The database is away.")

    job = Job("test", fail)
    for number in range(1, 3):
        job.begin()
        wait_until(lambda: job._thread is None)
        job.begin()
        assert (len(tries), job._thread) == (number, None), "it rests"
        job._not_before = 0.0
    assert caplog.text.count("'test' failed") == 1


def test_no_job_begins_when_the_worker_is_asked_to_end(blocked):
    jobs.stopping.set()
    job = Job("test", blocked)
    job.begin()
    job.join(1)
    assert blocked.times == 0


def test_nothing_that_is_due_waits_for_a_drain(worker, blocked, monkeypatch):
    version = make_version()
    monkeypatch.setattr(draining, "drain", blocked)
    make_photos_without_files([make_product()])
    worker()
    # The sweep has queued the photo, and the drain of it goes on and on.
    assert blocked.begun.wait(60)
    SweepRun.objects.all().delete()
    (later,) = make_photos_without_files([make_product()])
    show(version, [1, 2], product=9, clicks=[2], day=None, hour=0)
    wait_until(lambda: OutboxEntry.objects.filter(image_id=later.pk).exists())
    wait_until(lambda: SweepRun.objects.filter(finished_at__isnull=False).exists())
    wait_until(EventDay.objects.exists)
    assert blocked.times == 1


def test_new_photos_do_not_wait_for_an_index(worker, blocked, monkeypatch, tiny_version):
    embedder.release_embedder()
    tiny_version()
    photos = [add_photo(make_product(), product_photo("mug", colour, size=(64, 64))) for colour in ("red", "blue")]
    monkeypatch.setattr(worker_rollout, "build_index_unless_it_failed", blocked)
    worker()
    wait_until(lambda: Embedding.objects.count() == len(photos))
    assert blocked.begun.wait(60)
    photos.append(add_photo(make_product(), product_photo("mug", "green", size=(64, 64))))
    wait_until(lambda: Embedding.objects.count() == len(photos))
    assert not blocked.leave.is_set()


def test_one_worker_alone_does_all(worker, tiny_version):
    embedder.release_embedder()
    version = tiny_version()
    retired = make_version("old", "retired")
    for colour in ("red", "blue"):
        add_photo(make_product(), product_photo("mug", colour, size=(64, 64)))
    photo = ProductPhoto.objects.first()
    OutboxEntry.objects.create(version=retired, product_id=photo.product_id, image_id=photo.pk)
    show(version, [1, 2], product=9, clicks=[2], day=None, hour=0)
    try:
        worker()
        wait_until(lambda: Embedding.objects.filter(version=version).count() == 2)
        wait_until(lambda: index_state(version.pk).state == "ready")
        ended = SweepRun.objects.filter(finished_at__isnull=False)
        wait_until(lambda: ended.values("with_files").distinct().count() == 2)
        wait_until(EventDay.objects.exists)
        wait_until(lambda: not OutboxEntry.objects.exists())
    finally:
        jobs.stopping.set()
        clock.join()
        drop_index(version.pk)


def test_a_worker_that_is_asked_to_end_leaves_no_thread(worker):
    make_version()
    make_photos_without_files([make_product()])
    worker()
    wait_until(SweepRun.objects.exists)
    jobs.stopping.set()
    clock.join(20)
    visual_queries.join(20)
    ours = {
        "timekeeper",
        "visual-queries",
        *(job.name for job in (clock.drains, *(job for job, _is_due in clock._JOBS))),
    }
    left = {thread.name.removeprefix("shop-similarity-") for thread in threading.enumerate()}
    assert left & ours == set()
