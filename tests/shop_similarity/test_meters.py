"""What is not wanted costs nothing, and what is missing is told."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.urls import reverse

from shop_similarity import meters
from shop_similarity.checks import check_settings
from shop_similarity.workers import line


def nanoseconds(count: int = 20_000) -> float:
    began = time.perf_counter_ns()
    for _ in range(count):
        meters.count_search("codes", 0.01)
    return (time.perf_counter_ns() - began) / count


def test_off_it_costs_less_than_a_microsecond_and_loads_nothing(settings, monkeypatch):
    monkeypatch.setattr(meters, "_make", lambda: pytest.fail("nothing is to be made"))
    monkeypatch.setattr(meters, "_made", None)
    best = min(nanoseconds() for _ in range(5))
    print(f"off: {best:.0f} ns")
    # A busy machine aside it is a tenth of this; a search takes a thousand times as long.
    assert best < 5_000


def test_on_it_costs_a_few_microseconds(settings):
    pytest.importorskip("prometheus_client")
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "METRICS": True}
    meters.begin()
    best = min(nanoseconds(5_000) for _ in range(5))
    print(f"on: {best:.0f} ns")
    assert best < 100_000


@pytest.fixture
def without_the_extra(settings, monkeypatch):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "METRICS": True,
        "MONITORING_TOKEN": "a-token-of-many-characters",
    }
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setattr(meters, "is_installed", lambda: False)
    monkeypatch.setattr(meters, "_made", None)


def test_threads_that_count_first_at_once_make_the_meters_once(settings, monkeypatch):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "METRICS": True}
    made = []
    monkeypatch.setattr(meters, "is_installed", lambda: True)
    monkeypatch.setattr(meters, "_made", None)
    monkeypatch.setattr(meters, "_new", lambda: made.append(time.sleep(0.05)) or object())
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _number: meters._meters(), range(8)))
    assert len(made) == len(found) == 1


@pytest.mark.django_db
def test_without_the_extra_nothing_is_counted_and_a_sentence_says_why(without_the_extra, client):
    meters.count_search("exact", 1.0)
    meters.count_list(True)
    meters.count_photos("embedded", 1)
    answer = client.get(
        reverse("shop_similarity_monitoring:metrics"),
        headers={"Authorization": "Bearer a-token-of-many-characters"},
    )
    assert answer.status_code == 503
    assert b"pip install prometheus-client" in answer.content
    (warning,) = check_settings()
    assert warning.id == "shop_similarity.W007"


def test_the_outcomes_are_what_a_drain_reports():
    assert all(isinstance(getattr(line.DrainReport(), outcome), int) for outcome in meters.OUTCOMES)
