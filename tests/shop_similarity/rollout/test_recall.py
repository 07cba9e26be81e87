"""The recall of the search by codes is measured every night, and who looks after the shop hears when it is low."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from shop_similarity import database
from shop_similarity.checks import check_database
from shop_similarity.models import ModelVersion, RecallSample
from shop_similarity.rollout import recall
from shop_similarity.rollout.recall import is_due, measure_nightly, remembered
from shop_similarity.rollout.status import status
from shop_similarity.search import paths
from tests.shop_similarity.shops import make_shop

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _coded(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "EXACT_ROWS": 2, "CANDIDATES": 10}
    paths.forget_paths()


@pytest.fixture
def shop():
    return make_shop({f"Product {number}": {"a": number / 40} for number in range(30)})


def _lie() -> None:
    """Every second code says the opposite of its vector, and there are more photos than are compared."""
    make_shop({f"More {number}": {"a": number / 80} for number in range(60)}, ModelVersion.objects.get())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE shop_similarity_embedding SET code = ~code WHERE id % 2 = 0")


def _at(monkeypatch, hour: int, days: int = 0) -> None:
    now = datetime(2027, 1, 31, hour, tzinfo=ZoneInfo("UTC")) + timedelta(days=days)
    monkeypatch.setattr(timezone, "now", lambda: now)


def test_it_is_due_once_a_night_and_made_up_for_by_day(shop, monkeypatch):
    _at(monkeypatch, 14)
    assert is_due()
    assert measure_nightly().products == 30
    assert not is_due()
    # Ten hours later it is night, and too soon; the night after it is due, and at noon for whoever runs by day alone.
    for hour, days, due in ((2, 1, False), (13, 1, False), (2, 2, True), (21, 1, True)):
        _at(monkeypatch, hour, days)
        assert is_due() is due, (hour, days)


def test_a_shop_that_compares_everything_needs_none(settings, shop):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "EXACT_ROWS": 250}
    assert not is_due() and measure_nightly() is None
    ModelVersion.objects.update(state="retired")
    assert not is_due()


def test_nobody_hears_of_a_good_search(shop):
    measured = measure_nightly()
    assert (measured.recall, measured.filtered_recall, measured.is_low) == (1.0, 1.0, False)
    (row,) = status()["versions"]
    assert row["code_recall"]["recall"] == 1.0 and row["code_recall"]["warning"] == ""
    assert not [message for message in check_database([database.read_alias()]) if message.id == "shop_similarity.W021"]


def test_a_search_that_finds_too_little_is_told_of(shop, caplog):
    _lie()
    measured = measure_nightly()
    assert measured.is_low and measured.recall < 0.9
    assert "LEAST_RECALL" in caplog.text
    messages = check_database([database.read_alias()])
    (warning,) = (message for message in messages if message.id == "shop_similarity.W021")
    assert "LEAST_RECALL" in warning.msg and "CANDIDATES" in warning.msg
    (row,) = status()["versions"]
    assert row["code_recall"]["warning"] == warning.msg
    said = io.StringIO()
    call_command("similarity_status", stdout=said)
    assert warning.msg in said.getvalue()


def test_the_bound_is_a_setting(settings, shop):
    _lie()
    measured = measure_nightly()
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "LEAST_RECALL": 0.0}
    assert not measured.is_low


def test_a_filter_is_measured_by_itself(shop, monkeypatch):
    """What the search finds without a filter says nothing about what it finds behind one."""
    keys = recall._keys

    def worse(version, query, own, k, path, deadline, among):
        found = keys(version, query, own, k, path, deadline, among)
        return found if among is None or path is recall.Path.EXACT else set()

    monkeypatch.setattr(recall, "_keys", worse)
    measured = measure_nightly()
    assert (measured.recall, measured.filtered_recall, measured.is_low) == (1.0, 0.0, True)


def test_one_process_at_a_time_and_old_samples_go(shop, monkeypatch):
    version = ModelVersion.objects.active()
    measured = measure_nightly()
    RecallSample.objects.update(measured_at=timezone.now() - timedelta(days=500))
    recall.remember(version, measured)
    assert RecallSample.objects.count() == 1
    assert remembered([version]) == {version.pk: measured}
    assert measure_nightly() is None


def test_a_worker_that_is_stopped_keeps_nothing(shop):
    assert measure_nightly(stopped=lambda: True) is None
    assert not RecallSample.objects.exists()
