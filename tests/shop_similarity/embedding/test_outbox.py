"""Claims, leases, tries and failures of the outbox."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.models import Embedding, OutboxEntry
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors


def _queue(version, count: int, **values) -> list[int]:
    OutboxEntry.objects.bulk_create(
        OutboxEntry(version=version, product_id=1, image_id=number, **values) for number in range(1, count + 1)
    )
    return list(range(1, count + 1))


def _images(claims) -> list:
    return sorted(claim.image_id for claim in claims)


@pytest.mark.django_db
def test_claims_are_exclusive_until_the_lease_ends(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "LEASE_SECONDS": 60}
    version = make_version()
    _queue(version, 5)
    assert _images(outbox.claim(version.pk, 3, "a")) == [1, 2, 3]
    assert _images(outbox.claim(version.pk, 3, "b")) == [4, 5]
    assert outbox.claim(version.pk, 3, "c") == []
    assert not outbox.has_due()
    OutboxEntry.objects.filter(claimed_by="b").update(leased_until=timezone.now() - timedelta(seconds=1))
    assert outbox.has_due()


@pytest.mark.django_db(transaction=True)
def test_many_workers_claim_each_photo_once():
    version = make_version()
    _queue(version, 200)
    claimed: list[list] = []

    def work() -> None:
        try:
            while claims := outbox.claim(version.pk, 7, threading.current_thread().name):
                claimed.append(_images(claims))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(image for batch in claimed for image in batch) == list(range(1, 201))


@pytest.mark.django_db(transaction=True)
def test_save_does_not_wait_for_a_claim_nor_a_claim_for_a_save():
    version = make_version()
    row = ImageRow(1, 1, "name.jpg")
    outbox.enqueue(version.pk, [row])
    connection.set_autocommit(False)
    try:
        # A shop's transaction that stays open, with a row of the same photo.
        outbox.enqueue(version.pk, [row])
        done = threading.Event()

        def work() -> None:
            try:
                claims = outbox.claim(version.pk, 10, "w")
                outbox.done(version.pk, claims)
                done.set()
            finally:
                connections.close_all()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        assert done.is_set()
        connection.commit()
    finally:
        connection.set_autocommit(True)
    # The row that was committed later is still there: its photo may have changed since it was read.
    assert OutboxEntry.objects.count() == 1


@pytest.mark.django_db
def test_new_photos_go_before_a_backfill():
    version = make_version()
    _queue(version, 2, priority=OutboxEntry.Priority.BACKFILL)
    outbox.enqueue(version.pk, [ImageRow(99, 1, "new.jpg")])
    assert outbox.has_saved(version.pk)
    assert _images(outbox.claim(version.pk, 1, "w")) == [99]
    assert not outbox.has_saved(version.pk)
    assert outbox.claim(version.pk, 16, "w", saved=True) == []
    outbox.enqueue(version.pk, [ImageRow(98, 1, "new.jpg")])
    assert _images(outbox.claim(version.pk, 16, "w", saved=True)) == [98]


@pytest.mark.django_db
def test_nothing_that_has_waited_enough_costs_one_statement(django_assert_num_queries):
    """It is asked for twice with each batch, in a transaction of five statements before."""
    version = make_version()
    _queue(version, 2)
    with django_assert_num_queries(1):
        outbox.make_ready()
    with django_assert_num_queries(2):
        assert outbox.versions_with_work() == [version.pk]


@pytest.mark.django_db
def test_entries_of_one_photo_are_served_together():
    version = make_version()
    for _ in range(3):
        outbox.enqueue(version.pk, [ImageRow(1, 1, "a.jpg")])
    claims = outbox.claim(version.pk, 1, "w")
    assert len(claims) == 1
    outbox.done(version.pk, claims)
    assert not OutboxEntry.objects.exists()


@pytest.mark.django_db
def test_photo_that_killed_its_worker_is_claimed_alone_and_given_up_in_the_end(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MAX_ATTEMPTS": 3}
    version = make_version()
    _queue(version, 4)
    outbox.claim(version.pk, 2, "killed")
    _expire()
    # The untouched ones first, then the suspects one by one.
    assert _images(outbox.claim(version.pk, 4, "w")) == [3, 4]
    outbox.done(version.pk, [outbox.Claim(3, tuple(_ids(3)), 1), outbox.Claim(4, tuple(_ids(4)), 1)])
    assert _images(outbox.claim(version.pk, 4, "w")) == [1]
    outbox.done(version.pk, [outbox.Claim(1, tuple(_ids(1)), 2)])
    assert _images(outbox.claim(version.pk, 4, "w")) == [2]
    _expire()
    assert outbox.give_up_lost(version.pk) == 0
    assert _images(outbox.claim(version.pk, 4, "w")) == [2]
    _expire()
    assert outbox.give_up_lost(version.pk) == 1
    entry = OutboxEntry.objects.get()
    assert entry.failed_at is not None
    assert "died 3 times" in entry.last_error
    assert not outbox.has_due()


@pytest.mark.django_db
def test_what_a_killed_worker_had_makes_no_small_batches_of_the_others():
    version = make_version()
    _queue(version, 20)
    outbox.claim(version.pk, 5, "killed")
    _expire()
    assert _images(outbox.claim(version.pk, 6, "w")) == [6, 7, 8, 9, 10, 11]
    assert _images(outbox.claim(version.pk, 6, "w")) == [12, 13, 14, 15, 16, 17]
    # Saved a moment ago, one of them waits for no backfill.
    OutboxEntry.objects.filter(image_id=3).update(priority=OutboxEntry.Priority.SAVED)
    OutboxEntry.objects.exclude(image_id=3).update(priority=OutboxEntry.Priority.BACKFILL)
    assert _images(outbox.claim(version.pk, 6, "w")) == [3]
    assert _images(outbox.claim(version.pk, 6, "w")) == [18, 19, 20]
    assert _images(outbox.claim(version.pk, 6, "w")) == [1]


def _expire() -> None:
    OutboxEntry.objects.filter(leased_until__isnull=False).update(leased_until=timezone.now() - timedelta(seconds=1))


def _ids(image_id: int) -> list[int]:
    return list(OutboxEntry.objects.filter(image_id=image_id).values_list("pk", flat=True))


@pytest.mark.django_db
def test_passing_faults_are_tried_again_with_growing_pauses_and_a_bound(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MAX_ATTEMPTS": 3}
    version = make_version()
    _queue(version, 1)
    pauses = []
    for _ in range(2):
        (claim,) = outbox.claim(version.pk, 1, "w")
        assert outbox.retry_later(claim, "the storage is away") is True
        entry = OutboxEntry.objects.get()
        pauses.append((entry.due_at - timezone.now()).total_seconds())
        assert outbox.claim(version.pk, 1, "w") == []
        OutboxEntry.objects.update(due_at=None)
    assert pauses[1] > 1.5 * pauses[0] > 0
    (claim,) = outbox.claim(version.pk, 1, "w")
    assert outbox.retry_later(claim, "the storage is away") is False
    assert OutboxEntry.objects.get().last_error == "Given up after 3 tries: the storage is away"
    assert outbox.claim(version.pk, 1, "w") == []


@pytest.mark.django_db
def test_storage_that_stays_away_costs_no_embedding(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MAX_ATTEMPTS": 1}
    version = make_version()
    (photo,) = make_photos_without_files([make_product()])
    store_vectors(version, [photo], random_vectors(1))
    outbox.enqueue(version.pk, [ImageRow(photo.pk, photo.product_id, photo.file.name)])
    (claim,) = outbox.claim(version.pk, 1, "w")
    assert outbox.retry_later(claim, "the storage is away") is False
    assert Embedding.objects.filter(image_id=photo.pk).exists()
    assert outbox.counts([version.pk])[version.pk]["failed"] == 1


@pytest.mark.django_db
def test_released_photos_lose_no_try():
    version = make_version()
    _queue(version, 2)
    claims = outbox.claim(version.pk, 2, "w")
    outbox.release(claims)
    assert set(OutboxEntry.objects.values_list("attempts", flat=True)) == {0}
    assert _images(outbox.claim(version.pk, 2, "w")) == [1, 2]


@pytest.mark.django_db
def test_failure_removes_the_old_embedding_and_retry_queues_it_again():
    version = make_version()
    (photo,) = make_photos_without_files([make_product()])
    store_vectors(version, [photo], random_vectors(1))
    outbox.enqueue(version.pk, [ImageRow(photo.pk, photo.product_id, photo.file.name)])
    (claim,) = outbox.claim(version.pk, 1, "w")
    outbox.fail(claim, "No picture.", file_name=photo.file.name, file_mark="1:1")
    assert not Embedding.objects.exists()
    assert outbox.counts([version.pk]) == {version.pk: {"pending": 0, "failed": 1}}
    assert outbox.retry_failed(OutboxEntry.objects.all()) == 1
    assert outbox.counts([version.pk]) == {version.pk: {"pending": 1, "failed": 0}}


@pytest.mark.django_db
def test_success_clears_an_older_failure():
    version = make_version()
    for _ in range(2):
        outbox.enqueue(version.pk, [ImageRow(1, 1, "a.jpg")])
        (claim,) = outbox.claim(version.pk, 1, "w")
        outbox.fail(claim, "No picture.")
    assert OutboxEntry.objects.count() == 1
    outbox.enqueue(version.pk, [ImageRow(1, 1, "a.jpg")])
    outbox.done(version.pk, outbox.claim(version.pk, 1, "w"))
    assert not OutboxEntry.objects.exists()


@pytest.mark.django_db
def test_active_version_is_served_before_candidates():
    candidate = make_version("candidate", state="candidate")
    active = make_version("active")
    retired = make_version("retired", state="retired")
    for version in (candidate, active, retired):
        _queue(version, 1)
    assert outbox.versions_with_work() == [active.pk, candidate.pk]


@pytest.mark.django_db
def test_photo_that_a_worker_has_is_nobody_elses_whatever_is_queued_for_it_meanwhile():
    version = make_version()
    outbox.enqueue(version.pk, [ImageRow(1, 1, "a.jpg")])
    first = outbox.claim(version.pk, 5, "a")
    # Saved once more while the worker is at it: it may have read the file before.
    outbox.enqueue(version.pk, [ImageRow(1, 1, "a.jpg")])
    assert outbox.claim(version.pk, 5, "b") == []
    assert not outbox.has_due()
    assert outbox.versions_with_work() == []
    assert outbox.done(version.pk, first) == []
    assert outbox.versions_with_work() == [version.pk]
    assert _images(outbox.claim(version.pk, 5, "b")) == [1]


@pytest.mark.django_db(transaction=True)
def test_workers_that_claim_two_entries_of_a_photo_at_once_never_both_have_it():
    version = make_version()
    for _ in range(3):
        _queue(version, 60)
    at_work: set = set()
    twice: list = []
    guard = threading.Lock()

    def work() -> None:
        try:
            while outbox.has_due():
                claims = outbox.claim(version.pk, 7, threading.current_thread().name)
                images = set(_images(claims))
                with guard:
                    twice.extend(at_work & images)
                    at_work.update(images)
                time.sleep(0.002)
                with guard:
                    at_work.difference_update(images)
                assert outbox.done(version.pk, claims) == []
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert twice == []
    # A worker may have left while the last ones were in other hands.
    while claims := outbox.claim(version.pk, 60, "last"):
        outbox.done(version.pk, claims)
    assert not OutboxEntry.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("settle", ["done", "release", "retry_later", "fail"])
def test_claim_that_another_worker_has_by_now_settles_nothing(settle):
    version = make_version()
    (photo,) = make_photos_without_files([make_product()])
    store_vectors(version, [photo], random_vectors(1))
    outbox.enqueue(version.pk, [ImageRow(photo.pk, photo.product_id, photo.file.name)])
    (stopped,) = outbox.claim(version.pk, 1, "a")
    _expire()
    (other,) = outbox.claim(version.pk, 1, "b")
    match settle:
        case "done":
            assert outbox.done(version.pk, [stopped]) == [stopped]
        case "release":
            outbox.release([stopped])
        case "retry_later":
            outbox.retry_later(stopped, "The storage is away.")
        case "fail":
            outbox.fail(stopped, "No picture.")
    entry = OutboxEntry.objects.get()
    assert (entry.claimed_by, entry.leased_until, entry.failed_at) == ("b", other.leased_until, None)
    assert Embedding.objects.exists()
    assert outbox.done(version.pk, [other]) == []
    assert not OutboxEntry.objects.exists()


@pytest.mark.django_db
def test_faults_of_the_storage_and_deaths_of_workers_are_counted_apart(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MAX_ATTEMPTS": 4}
    version = make_version()
    _queue(version, 1)
    for _ in range(3):
        (claim,) = outbox.claim(version.pk, 1, "a")
        assert outbox.retry_later(claim, "The storage is away.")
        OutboxEntry.objects.update(due_at=None)
    # One death is no reason to say that the photo kills workers.
    outbox.claim(version.pk, 1, "a")
    for deaths in range(1, 4):
        if deaths == 1:
            outbox.count_death(OutboxEntry.objects.all())
        else:
            _expire()
        assert outbox.give_up_lost(version.pk) == 0, deaths
        assert _images(outbox.claim(version.pk, 1, "a")) == [1]
    _expire()
    assert outbox.give_up_lost(version.pk) == 1
    assert "died 4 times" in OutboxEntry.objects.get().last_error
