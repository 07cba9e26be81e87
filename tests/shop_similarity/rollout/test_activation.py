"""Switching versions: states, the gate, coverage, wishes, going back, retiring, and two of them at once."""

from __future__ import annotations

import io
import json
import threading
import time
from datetime import timedelta

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import ProtectedError
from django.template import Context, Template
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from shop_similarity import database, rollout
from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.embedding.coverage import version_counts
from shop_similarity.embedding.sweep import sweep
from shop_similarity.management.commands import activate_model
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry, weights_storage
from shop_similarity.rollout import activation, retirement
from shop_similarity.rollout.status import status
from tests.shop_similarity.factories import (
    add_photo,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.vectors import random_vectors

State = ModelVersion.State
BETTER = {"evaluation": {"set": "s", "retrieval": {"mean_average_precision": 0.9}}}
WORSE = {"evaluation": {"set": "s", "retrieval": {"mean_average_precision": 0.8}}}


@pytest.fixture
def photos(db) -> list:
    return make_photos_without_files([make_product() for _ in range(6)])


@pytest.fixture
def active(photos) -> ModelVersion:
    version = make_version("old", metrics=WORSE)
    store_vectors(version, photos, random_vectors(6))
    return version


@pytest.fixture
def candidate(active) -> ModelVersion:
    return make_version("new", state=State.CANDIDATE, metrics=BETTER)


def _states() -> dict[str, str]:
    return dict(ModelVersion.objects.values_list("name", "state"))


def _complete(version, photos) -> None:
    store_vectors(version, photos, random_vectors(len(photos), seed=version.pk))


def _say(*arguments, **options) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


# --- switching ---


@pytest.mark.django_db
def test_the_first_version_needs_neither_evaluation_nor_embeddings(photos):
    rollout.activate(make_version("first", state=State.CANDIDATE))
    assert _states() == {"first": "active"}
    ModelVersion.objects.all().update(state=State.RETIRED)
    assert rollout.request_activation(make_version("second", state=State.CANDIDATE))
    assert _states() == {"first": "retired", "second": "active"}


def test_a_switch_keeps_the_version_before_and_retires_the_one_before_that(active, candidate, photos):
    _complete(candidate, photos)
    rollout.activate(candidate, note="by the test")
    assert _states() == {"old": "standby", "new": "active"}
    assert (candidate.state, candidate.activation_note, candidate.activation_forced) == ("active", "by the test", False)
    third = make_version("third", state=State.CANDIDATE, metrics=BETTER)
    _complete(third, photos)
    rollout.activate(third, force=True)
    assert _states() == {"old": "retired", "new": "standby", "third": "active"}
    assert third.activation_forced
    assert "Forced: third does not beat new" in third.activation_note


def test_going_back_and_forth(active, candidate, photos):
    _complete(candidate, photos)
    rollout.activate(candidate)
    assert rollout.roll_back(note="too many shoes").name == "old"
    assert _states() == {"old": "active", "new": "standby"}
    assert ModelVersion.objects.active().activation_note == "too many shoes"
    assert rollout.roll_back().name == "new"
    assert _states() == {"old": "standby", "new": "active"}


def test_without_a_standby_there_is_no_going_back(active):
    with pytest.raises(rollout.WrongState, match="no version to go back to"):
        rollout.roll_back()


def test_activating_the_active_version_changes_nothing(active):
    before = active.activated_at
    rollout.activate(active)
    assert rollout.request_activation(active)
    assert (active.state, active.activated_at) == ("active", before)


def test_the_database_itself_admits_one_active_and_one_standby(active):
    for state in (State.ACTIVE, State.STANDBY):
        make_version(f"{state} 1", state=State.CANDIDATE)
        with pytest.raises(IntegrityError), transaction.atomic():
            make_version(f"{state} 2", state=state)
            make_version(f"{state} 3", state=state)


# --- what is in the way ---


def test_a_version_that_lacks_photos_is_not_activated(active, candidate, photos):
    _complete(candidate, photos[:4])
    with pytest.raises(rollout.NotReady, match=r"lacks 2 of the 6 photos that old shows.*--model new") as error:
        rollout.activate(candidate)
    assert (error.value.coverage.lacking, error.value.coverage.unqueued) == (2, 2)
    rollout.activate(candidate, incomplete=True)
    assert _states() == {"old": "standby", "new": "active"}


def test_a_version_that_is_not_better_is_not_activated(active, candidate, photos):
    _complete(candidate, photos)
    ModelVersion.objects.filter(pk=active.pk).update(metrics=BETTER)
    for activate in (rollout.activate, rollout.request_activation):
        with pytest.raises(rollout.NotBetter, match=r"does not beat old.*activate_model new --force"):
            activate(candidate)
    assert _states() == {"old": "active", "new": "candidate"}


@pytest.fixture
def many(db) -> list:
    return make_photos_without_files([make_product() for _ in range(8)])


def test_a_version_that_tells_no_photo_from_another_is_not_activated_however_it_was_measured(many):
    old, new = make_version("old", metrics=WORSE), make_version("new", state=State.CANDIDATE, metrics=BETTER)
    store_vectors(old, many, random_vectors(8))
    same = np.repeat(random_vectors(1), 8, axis=0)
    store_vectors(new, many, same)
    for attempt in (rollout.activate, rollout.request_activation):
        with pytest.raises(rollout.NotBetter, match=r"new has nearly the same vector for 8 different photos.*--force"):
            attempt(new)
    found = rollout.coverage(new)
    assert (found.is_complete, found.is_ready, found.obstacles()) == (True, False, [found.fault])
    assert "nearly the same vector" in found.fault
    assert "nearly the same vector" in _say("model_versions")
    assert "nearly the same vector" in _say("similarity_status")
    assert json.loads(_say("similarity_status", json=True))["versions"][0]["fault"] != ""
    rollout.activate(new, force=True)
    assert "nearly the same vector" in new.activation_note
    # Going back is always possible.
    assert rollout.roll_back().name == "old"


def test_a_wish_for_a_version_that_turns_out_to_have_collapsed_is_withdrawn_with_the_reason(many):
    old, new = make_version("old", metrics=WORSE), make_version("new", state=State.CANDIDATE, metrics=BETTER)
    store_vectors(old, many, random_vectors(8))
    assert not rollout.request_activation(new)
    store_vectors(new, many, np.repeat(random_vectors(1), 8, axis=0))
    assert rollout.advance() is None
    new.refresh_from_db()
    assert (new.state, new.activation_requested_at) == ("candidate", None)
    assert "nearly the same vector" in new.activation_note


def test_the_first_version_needs_usable_vectors_where_it_has_any(many):
    first = make_version("first", state=State.CANDIDATE)
    store_vectors(first, many, np.repeat(random_vectors(1), 8, axis=0))
    with pytest.raises(rollout.NotBetter, match="nearly the same vector"):
        rollout.activate(first)
    with pytest.raises(rollout.NotBetter, match="nearly the same vector"):
        rollout.request_activation(first)
    assert rollout.request_activation(first, force=True)


def test_coverage_counts_what_is_there_what_waits_and_what_failed(active, candidate, photos):
    _complete(candidate, photos[:2])
    outbox.enqueue(candidate.pk, [ImageRow(photos[2].pk, photos[2].product_id, "a.jpg")])
    outbox.enqueue(candidate.pk, [ImageRow(photos[3].pk, photos[3].product_id, "b.jpg")])
    outbox.fail(outbox.claim(candidate.pk, 2, "w")[1], "The file is cut off.")
    # Neither is anything that pages of the active version could show.
    Embedding.objects.filter(version=active, image_id=photos[5].pk).delete()
    found = rollout.coverage(candidate)
    assert (found.photos, found.embedded, found.waiting, found.failed) == (6, 2, 1, 1)
    assert (found.active, found.shown, found.lacking, found.unqueued, found.lost) == ("old", 5, 2, 1, 1)
    assert found.share == pytest.approx(2 / 6)
    assert found.loses_too_much
    with pytest.raises(rollout.NotReady, match=r"1 of the 5 photos that old shows failed for new.*--retry-failed"):
        rollout.activate(candidate)
    assert rollout.coverage(active).is_ready


def test_versions_are_counted_alike_by_three_statements(active, candidate, photos, django_assert_num_queries):
    _complete(candidate, photos[:2])
    outbox.enqueue(candidate.pk, [ImageRow(photo.pk, photo.product_id, "a.jpg") for photo in photos[2:4]])
    outbox.fail(outbox.claim(candidate.pk, 1, "w")[0], "The file is cut off.")
    with django_assert_num_queries(3):
        counts = version_counts([active.pk, candidate.pk])
    of_active, of_candidate = counts[active.pk], counts[candidate.pk]
    assert (of_active.embedded, of_active.products, of_active.waiting, of_active.failed) == (6, 6, 0, 0)
    assert (of_candidate.embedded, of_candidate.products, of_candidate.waiting, of_candidate.failed) == (2, 2, 1, 1)
    found = rollout.coverage(candidate)
    row = next(row for row in status()["versions"] if row["name"] == "new")
    assert (found.embedded, found.waiting, found.failed) == (2, 1, 1)
    assert (row["embedded"], row["pending"], row["failed"], row["coverage"]) == (2, 1, 1, round(found.share, 4))


def test_a_photo_that_moved_counts_for_its_product_only(active, candidate, photos):
    _complete(candidate, photos)
    Embedding.objects.filter(version=candidate, image_id=photos[0].pk).update(product_id=photos[1].product_id)
    assert rollout.coverage(candidate).lacking == 1


def test_few_failures_do_not_stand_in_the_way_but_many_do(photos, active, candidate):
    more = make_photos_without_files([make_product()], per_product=194)
    store_vectors(active, more, random_vectors(194))
    _complete(candidate, (photos + more)[3:])
    for photo, count in ((photos[0], 1), (photos[1], 2), (photos[2], 3)):
        outbox.enqueue(candidate.pk, [ImageRow(photo.pk, photo.product_id, photo.file.name)])
        outbox.fail(outbox.claim(candidate.pk, 1, "w")[0], "The file is not in the storage.")
        assert rollout.coverage(candidate).lost == count
        assert rollout.coverage(candidate).loses_too_much == (count == 3)


@pytest.mark.django_db(transaction=True)
def test_the_index_of_the_active_version_is_asked_of_the_next():
    from shop_similarity.embedding.index import build_index, drop_index, indexed_versions

    photos = make_photos_without_files([make_product() for _ in range(3)])
    old, new = make_version("old", metrics=WORSE), make_version("new", state=State.CANDIDATE, metrics=BETTER)
    for version in (old, new):
        _complete(version, photos)
    build_index(old.pk)
    try:
        with pytest.raises(rollout.NotReady, match="no index yet"):
            rollout.activate(new)
        assert not rollout.request_activation(new)
        assert rollout.advance() == new
        assert not rollout.coverage(new).lacks_index
        rollout.retire(old)
        assert retirement.clear_retired() == 3
        assert not retirement.clear_retired()
        with connection.cursor() as cursor:
            cursor.execute("SELECT relname FROM pg_class WHERE relname LIKE 'shop_similarity_code_v%'")
            assert cursor.fetchall() == [(f"shop_similarity_code_v{new.pk}",)]
        # Nobody drops it inside a transaction, where pages would have to wait for that.
        third = make_version("third", state=State.CANDIDATE)
        gone = third.pk
        build_index(gone)
        with transaction.atomic():
            rollout.delete(third)
        assert indexed_versions() == [new.pk, gone]
        retirement.clear_retired()
        assert indexed_versions() == [new.pk]
    finally:
        for pk in indexed_versions():
            drop_index(pk)


def _counts(captured) -> list[str]:
    """Statements that look through all photos or embeddings."""
    return [query["sql"] for query in captured.captured_queries if "COUNT(" in query["sql"]]


def test_a_switch_counts_once_before_the_lock_and_asks_under_it_what_has_come_in(active, candidate, photos):
    _complete(candidate, photos)
    with CaptureQueriesContext(connection) as captured:
        rollout.activate(candidate)
    assert len(_counts(captured)) == 1
    order = [query["sql"] for query in captured.captured_queries]
    lock = next(number for number, sql in enumerate(order) if "advisory" in sql)
    assert order.index(_counts(captured)[0]) < lock
    assert any(f'FROM "{OutboxEntry._meta.db_table}"' in sql for sql in order[lock:])


def test_a_wish_is_fulfilled_with_one_count(active, candidate, photos):
    _complete(candidate, photos)
    with CaptureQueriesContext(connection) as captured:
        rollout.request_activation(candidate)
    assert _counts(captured) == []
    with CaptureQueriesContext(connection) as captured:
        assert rollout.advance() == candidate
    assert len(_counts(captured)) == 1


@pytest.mark.parametrize("by_wish", [True, False])
def test_a_photo_that_comes_in_after_the_count_keeps_a_version_from_taking_over(
    active, candidate, photos, monkeypatch, by_wish
):
    _complete(candidate, photos)
    rollout.request_activation(candidate)
    count = rollout.gap

    def counting(*versions):
        gap = count(*versions)
        monkeypatch.setattr(activation, "gap", count)
        new = make_photos_without_files([make_product()])
        store_vectors(active, new, random_vectors(1, seed=9))
        outbox.enqueue(candidate.pk, [ImageRow(new[0].pk, new[0].product_id, new[0].file.name)])
        return gap

    monkeypatch.setattr(activation, "gap", counting)
    if by_wish:
        assert rollout.advance() is None
    else:
        with pytest.raises(rollout.NotReady) as error:
            rollout.activate(candidate)
        assert error.value.coverage.lacking == 1
    assert _states() == {"old": "active", "new": "candidate"}


def test_a_photo_that_gets_another_product_after_the_count_keeps_a_version_from_taking_over(
    active, candidate, photos, monkeypatch
):
    _complete(candidate, photos)
    count = rollout.gap

    def counting(*versions):
        gap = count(*versions)
        monkeypatch.setattr(activation, "gap", count)
        photo = photos[0]
        photo.product = make_product()
        photo.save()
        active.embeddings.filter(image_id=photo.pk).update(product_id=photo.product_id)
        outbox.enqueue(candidate.pk, [ImageRow(photo.pk, photo.product_id, photo.file.name)])
        return gap

    monkeypatch.setattr(activation, "gap", counting)
    with pytest.raises(rollout.NotReady):
        rollout.activate(candidate)


def test_another_switch_after_the_count_has_all_compared_again(active, candidate, photos, monkeypatch):
    _complete(candidate, photos)
    rollout.activate(candidate)
    third = make_version("third", state=State.CANDIDATE)
    _complete(third, photos)
    new = make_photos_without_files([make_product()])
    # Shown by the standby alone, and not queued for the third.
    store_vectors(active, new, random_vectors(1, seed=9))
    count = rollout.gap

    def counting(*versions):
        gap = count(*versions)
        monkeypatch.setattr(activation, "gap", count)
        rollout.roll_back()
        return gap

    monkeypatch.setattr(activation, "gap", counting)
    with pytest.raises(rollout.NotReady):
        rollout.activate(third, force=True)


def test_of_a_version_that_lost_photos_the_shown_ones_are_counted_too(active, candidate, photos):
    _complete(candidate, photos[1:])
    outbox.enqueue(candidate.pk, [ImageRow(photos[0].pk, photos[0].product_id, photos[0].file.name)])
    outbox.fail(outbox.claim(candidate.pk, 1, "w")[0], "The file is not in the storage.")
    with CaptureQueriesContext(connection) as captured:
        gap = rollout.gap(candidate)
    assert (gap.lacking, gap.lost, gap.loses_too_much, gap.is_complete) == (0, 1, True, False)
    assert len(_counts(captured)) == 2


# --- wishes ---


def test_a_wish_is_fulfilled_when_the_candidate_is_complete(active, candidate, photos):
    assert not rollout.request_activation(candidate, note="better on shoes")
    assert rollout.is_wanted()
    assert rollout.advance() is None
    # It queued what is missing by itself.
    assert candidate.outbox.count() == 6
    assert set(candidate.outbox.values_list("priority", flat=True)) == {OutboxEntry.Priority.BACKFILL}
    assert rollout.advance() is None
    OutboxEntry.objects.all().delete()
    _complete(candidate, photos)
    assert rollout.advance() == candidate
    candidate.refresh_from_db()
    assert (candidate.state, candidate.activation_note) == ("active", "better on shoes")
    assert candidate.activation_requested_at is None
    assert not rollout.is_wanted()


def test_a_photo_that_only_the_active_version_has_yet_holds_the_switch_back(active, candidate, photos):
    _complete(candidate, photos)
    rollout.request_activation(candidate)
    product = make_product()
    photo = make_photos_without_files([product])
    outbox.enqueue(candidate.pk, [ImageRow(photo[0].pk, product.pk, photo[0].file.name)])
    store_vectors(active, photo, random_vectors(1))
    assert rollout.advance() is None
    store_vectors(candidate, photo, random_vectors(1))
    assert rollout.advance() == candidate


def test_a_photo_that_cannot_be_read_for_now_holds_nothing_back_unless_the_active_version_shows_it(
    active, candidate, photos
):
    _complete(candidate, photos)
    photo = make_photos_without_files([make_product()])[0]
    row = ImageRow(photo.pk, photo.product_id, photo.file.name)
    outbox.enqueue(candidate.pk, [row], priority=OutboxEntry.Priority.BACKFILL)
    rollout.request_activation(candidate)
    assert rollout.advance() is None
    outbox.retry_later(outbox.claim(candidate.pk, 1, "w")[0], "The storage could not be read.")
    store_vectors(active, [photo], random_vectors(1))
    assert rollout.advance() is None
    Embedding.objects.filter(image_id=photo.pk).delete()
    assert rollout.advance() == candidate


def test_the_last_wish_counts(active, candidate, photos):
    other = make_version("other", state=State.CANDIDATE, metrics=BETTER)
    for version in (candidate, other):
        _complete(version, photos)
        rollout.request_activation(version)
    candidate.refresh_from_db()
    assert (candidate.activation_requested_at, candidate.activation_note) == (None, "Withdrawn for the sake of other.")
    assert rollout.advance() == other


def test_a_wish_is_withdrawn_when_the_comparison_turns(active, candidate, photos):
    _complete(candidate, photos)
    rollout.request_activation(candidate)
    ModelVersion.objects.filter(pk=active.pk).update(metrics=BETTER)
    assert rollout.advance() is None
    candidate.refresh_from_db()
    assert (candidate.state, candidate.activation_requested_at) == ("candidate", None)
    assert "Withdrawn: new does not beat old" in candidate.activation_note


def test_after_going_back_nothing_switches_by_itself(active, candidate, photos):
    _complete(candidate, photos)
    rollout.activate(candidate)
    third = make_version("third", state=State.CANDIDATE, metrics=BETTER)
    _complete(third, photos)
    rollout.request_activation(third, force=True)
    rollout.roll_back()
    assert rollout.advance() is None
    assert _states() == {"old": "active", "new": "standby", "third": "candidate"}


def test_going_back_while_a_worker_counts_keeps_it_from_switching(active, candidate, photos, monkeypatch):
    _complete(candidate, photos)
    rollout.activate(candidate)
    third = make_version("third", state=State.CANDIDATE)
    _complete(third, photos)
    rollout.request_activation(third, force=True)
    count = rollout.gap
    calls = []

    def counting(*versions):
        gap = count(*versions)
        if not calls:
            calls.append(rollout.roll_back())
        return gap

    monkeypatch.setattr(activation, "gap", counting)
    assert rollout.advance() is None
    assert _states() == {"old": "active", "new": "standby", "third": "candidate"}


def test_the_standby_and_the_retired_are_told_what_leads_to_them(active, candidate, photos):
    _complete(candidate, photos)
    rollout.activate(candidate)
    for activate in (rollout.activate, rollout.request_activation):
        with pytest.raises(rollout.WrongState, match="rollback_model"):
            activate(active, force=True)
    rollout.retire(active)
    with pytest.raises(rollout.WrongState, match="retired and has no embeddings"):
        rollout.activate(active, force=True, incomplete=True)


def test_a_retired_version_is_embedded_anew_and_activated(active, candidate, photos):
    _complete(candidate, photos)
    rollout.retire(candidate)
    # What it had may be out of date by now.
    assert not rollout.request_activation(candidate)
    assert candidate.state == "candidate"
    assert not candidate.embeddings.exists()
    assert rollout.advance() is None
    assert candidate.outbox.count() == 6


def test_nothing_is_counted_while_a_photo_waits_that_pages_would_lose(active, candidate, photos, monkeypatch):
    _complete(candidate, photos[1:])
    rollout.request_activation(candidate, force=True)
    outbox.enqueue(candidate.pk, [ImageRow(photos[0].pk, photos[0].product_id, photos[0].file.name)])
    OutboxEntry.objects.update(due_at=timezone.now() + timedelta(hours=1))
    with monkeypatch.context() as patch:
        patch.setattr("shop_similarity.rollout.activation.gap", lambda *_versions: pytest.fail("All were counted."))
        assert rollout.advance() is None
    _complete(candidate, photos)
    # It waits still, but no page would lose it.
    assert rollout.advance() == candidate


# --- retiring and deleting ---


def test_retired_versions_are_cleared_in_portions(active, candidate, photos, monkeypatch):
    monkeypatch.setattr(retirement, "_PORTION", 4)
    # An index that an earlier test has left behind would be asked about first.
    monkeypatch.setattr(retirement, "indexed_versions", set)
    _complete(candidate, photos)
    outbox.enqueue(candidate.pk, [ImageRow(photo.pk, photo.product_id, "a.jpg") for photo in photos])
    rollout.retire(candidate)
    asked = []
    assert retirement.clear_retired(stopped=lambda: len(asked) == 3 or asked.append(1)) == 4
    assert candidate.embeddings.count() == 2
    assert retirement.clear_retired() == 2
    assert not candidate.outbox.exists()
    assert active.embeddings.count() == 6
    candidate.refresh_from_db()
    assert candidate.weights.name == "none"


def test_what_came_back_from_retirement_is_not_cleared(active, candidate, photos):
    _complete(candidate, photos)
    rollout.retire(candidate)
    stale = ModelVersion.objects.get(pk=candidate.pk)
    ModelVersion.objects.filter(pk=candidate.pk).update(state=State.CANDIDATE)
    assert retirement.clear(stale) == 0
    assert candidate.embeddings.count() == 6


def test_nothing_is_written_for_a_version_that_was_retired_meanwhile(active, candidate, photos):
    outbox.enqueue(candidate.pk, [ImageRow(photos[0].pk, photos[0].product_id, photos[0].file.name)])
    rollout.retire(candidate)
    with pytest.raises(AssertionError):
        _complete(candidate, photos[:1])
    assert not candidate.embeddings.exists()


def test_the_active_version_is_neither_retired_nor_deleted(active, candidate, photos):
    for remove in (rollout.retire, rollout.delete):
        with pytest.raises(rollout.WrongState, match="old is the active version"):
            remove(active)
    for remove in (active.delete, ModelVersion.objects.all().delete):
        with pytest.raises(ProtectedError, match="active version"):
            remove()
    _complete(candidate, photos)
    rollout.activate(candidate)
    with pytest.raises(rollout.WrongState, match="retire it first"):
        rollout.delete(active)


def test_deleting_takes_everything_with_it(active, candidate, photos, django_capture_on_commit_callbacks):
    _complete(candidate, photos)
    candidate.weights.save("gone.weights.h5", ContentFile(b"weights"))
    name = candidate.weights.name
    with django_capture_on_commit_callbacks(using=database.write_alias(), execute=True):
        rollout.delete(candidate)
    assert _states() == {"old": "active"}
    assert Embedding.objects.count() == 6
    assert not weights_storage().exists(name)


# --- everybody who speaks of live versions ---


def test_photos_are_queued_for_the_standby_too(active, candidate, photos):
    _complete(candidate, photos)
    rollout.activate(candidate)
    make_version("done", state=State.RETIRED)
    OutboxEntry.objects.all().delete()
    photo = add_photo(make_product(), b"not looked at in the web process")
    waiting = OutboxEntry.objects.filter(image_id=photo.pk).values_list("version__name", flat=True)
    assert sorted(waiting) == ["new", "old"]
    make_photos_without_files([make_product()])
    assert sweep(files=False).enqueued == 2


def test_a_sweep_takes_what_a_candidate_lacks_for_its_backfill(active, candidate, photos):
    make_photos_without_files([make_product()])
    sweep(files=False)
    found = set(OutboxEntry.objects.values_list("version__name", "priority").distinct())
    assert found == {("old", OutboxEntry.Priority.SWEPT), ("new", OutboxEntry.Priority.BACKFILL)}


def test_saved_photos_of_any_version_come_before_a_backfill(active, candidate):
    standby = make_version("standby", state=State.STANDBY)

    def queue(version, priority, image=1):
        outbox.enqueue(version.pk, [ImageRow(image, 1, "a.jpg")], priority=priority)

    queue(candidate, OutboxEntry.Priority.BACKFILL)
    queue(active, OutboxEntry.Priority.BACKFILL, image=2)
    assert outbox.versions_with_work() == [active.pk, candidate.pk]
    queue(candidate, OutboxEntry.Priority.SAVED)
    assert outbox.versions_with_work() == [candidate.pk, active.pk]
    queue(standby, OutboxEntry.Priority.SWEPT)
    assert outbox.versions_with_work() == [standby.pk, candidate.pk, active.pk]
    queue(active, OutboxEntry.Priority.SAVED)
    assert outbox.versions_with_work() == [active.pk, standby.pk, candidate.pk]
    OutboxEntry.objects.filter(version=active, priority=OutboxEntry.Priority.SAVED).update(
        leased_until=timezone.now() + timedelta(minutes=1)
    )
    assert outbox.versions_with_work() == [standby.pk, candidate.pk, active.pk]


def test_all_widgets_of_a_request_are_of_one_version(active, candidate, photos, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "FALLBACK": None, "CATEGORY": None}
    _complete(candidate, photos[:3])
    first, second = photos[0].product, photos[1].product
    request = RequestFactory().get("/")
    template = Template("{% load shop_similarity %}{% similar_products product %}")
    shown = []
    for product in (first, second):
        shown.append(template.render(Context({"product": product, "request": request})).count("<li"))
        if product is first:
            # The switch comes while the page is rendered.
            rollout.activate(candidate, incomplete=True)
    assert shown == [5, 5]
    assert template.render(Context({"product": first, "request": RequestFactory().get("/")})).count("<li") == 2


def test_the_api_names_the_version_that_found_the_products(active, candidate, photos, client):
    _complete(candidate, photos)
    url = f"/api/similarity/v1/products/{photos[0].product_id}/similar/"
    before = client.get(url).json()
    rollout.activate(candidate)
    after = client.get(url).json()
    assert (before["version"], after["version"]) == ("old", "new")
    assert before["results"] != after["results"]


# --- at the same time ---


@pytest.mark.django_db(transaction=True)
def test_many_switches_at_once_follow_each_other():
    versions = [make_version("v0"), *(make_version(f"v{n}", state=State.CANDIDATE) for n in range(1, 5))]
    errors: list[Exception] = []
    seen: set[int] = set()
    over = threading.Event()

    def work(action) -> None:
        try:
            for _ in range(5):
                try:
                    action()
                except rollout.WrongState:
                    continue
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    def look() -> None:
        try:
            while not over.is_set():
                seen.add(ModelVersion.objects.filter(state=State.ACTIVE).count())
        finally:
            connections.close_all()

    watching = threading.Thread(target=look)
    watching.start()
    threads = [
        threading.Thread(target=work, args=(lambda version=version: rollout.activate(version, force=True),))
        for version in versions
    ]
    threads.append(threading.Thread(target=work, args=(rollout.roll_back,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    over.set()
    watching.join(timeout=60)
    assert errors == []
    # Not for a moment was there none.
    assert seen == {1}
    states = list(_states().values())
    assert (states.count("active"), states.count("standby")) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_save_does_not_wait_for_a_switch_but_a_worker_s_write_does():
    photos = make_photos_without_files([make_product()])
    active = make_version("old")
    waited: list[str] = []

    def save() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '2s'")
            add_photo(photos[0].product, b"not looked at in the web process")
            waited.append("saved")
        finally:
            connections.close_all()

    def write() -> None:
        try:
            store_vectors(active, photos, random_vectors(1))
            waited.append("written")
        finally:
            connections.close_all()

    with activation._versions():
        writer = threading.Thread(target=write)
        writer.start()
        saver = threading.Thread(target=save)
        saver.start()
        saver.join(timeout=10)
        assert waited == ["saved"]
        assert writer.is_alive()
    writer.join(timeout=10)
    assert waited == ["saved", "written"]


# --- commands ---


def test_the_commands_tell_what_they_did(active, candidate, photos):
    assert "photos to go: 6" in _say("activate_model", "new")
    assert "becomes active when it is complete" in _say("similarity_status")
    listed = _say("model_versions")
    assert listed.index("old  active") < listed.index("new  candidate")
    assert "becomes active when it is complete. new lacks 6 of the 6 photos" in listed
    with pytest.raises(CommandError, match="lacks 6 of the 6"):
        _say("activate_model", "new", "--now")
    _complete(candidate, photos)
    assert "new is the active version now" in _say("activate_model", "new", "--now", "--note", "a test")
    assert "already" in _say("activate_model", "new")
    assert "a test" in _say("model_versions")
    assert "old is the active version again" in _say("rollback_model")
    assert "new is retired" in _say("retire_model", "new")
    rows = {row["name"]: row for row in json.loads(_say("model_versions", "--json"))}
    assert (rows["old"]["state"], rows["new"]["state"]) == ("active", "retired")
    assert "new is deleted" in _say("retire_model", "new", "--delete")
    assert _states() == {"old": "active"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("outcome", ["switched", "withdrawn"])
def test_waiting_ends_when_a_worker_has_switched_or_the_wish_is_gone(outcome, monkeypatch):
    monkeypatch.setattr(activate_model, "_LOOK_SECONDS", 0.02)
    photos = make_photos_without_files([make_product() for _ in range(6)])
    old, new = make_version("old", metrics=WORSE), make_version("new", state=State.CANDIDATE, metrics=BETTER)
    _complete(old, photos)

    def work() -> None:
        try:
            while not rollout.is_wanted():
                time.sleep(0.01)
            time.sleep(0.2)
            _complete(new, photos)
            OutboxEntry.objects.all().delete()
            if outcome == "withdrawn":
                ModelVersion.objects.filter(pk=old.pk).update(metrics=BETTER)
            rollout.advance()
        finally:
            connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        if outcome == "switched":
            assert "new is the active version now" in _say("activate_model", "new", "--wait")
        else:
            with pytest.raises(CommandError, match=r"new is not activated\. Withdrawn: new does not beat old"):
                _say("activate_model", "new", "--wait")
    finally:
        worker.join(timeout=30)


def test_the_commands_mistakes_are_sentences(active, candidate):
    with pytest.raises(CommandError, match=r"no model version 'nope'\. Known: new, old"):
        _say("activate_model", "nope")
    with pytest.raises(CommandError, match="no version to go back to"):
        _say("rollback_model")
    with pytest.raises(CommandError, match="old is the active version"):
        _say("retire_model", "old")
    with pytest.raises(CommandError, match="goes with --now"):
        _say("activate_model", "new", "--incomplete")
    ModelVersion.objects.filter(pk=candidate.pk).update(metrics={})
    with pytest.raises(CommandError, match=r"new was not evaluated.*evaluate_mildnet"):
        _say("activate_model", "new")
    assert "Forced: new was not evaluated" in _say("activate_model", "new", "--force")
    candidate.refresh_from_db()
    assert candidate.activation_forced
