import threading
from datetime import datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone

from shop_similarity import database
from shop_similarity.feedback import roll_up as module
from shop_similarity.feedback.daily_sums import start_of, today
from shop_similarity.feedback.preferences import preferences
from shop_similarity.feedback.roll_up import is_due, roll_up
from shop_similarity.feedback.statistics import click_rates, clicks_by_position
from shop_similarity.models import DailyStatistic, Event, EventDay, Preference, Surface
from tests.shop_similarity.factories import make_version
from tests.shop_similarity.feedback.lists import show

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _noon(monkeypatch):
    """In the first minutes of a day the last but one is not closed yet."""

    class Noon(datetime):
        @classmethod
        def now(cls, tz=None):
            return start_of(today()) + timedelta(hours=12)

    monkeypatch.setattr(module, "datetime", Noon)


@pytest.fixture
def version():
    return make_version()


def ago(days):
    return today() - timedelta(days=days)


def sums():
    return {
        (row.day, row.surface, row.position): (row.impressions, row.clicks, row.baskets)
        for row in DailyStatistic.objects.all()
    }


def figures(rates):
    return {
        (rate.version, rate.surface, rate.position): (rate.impressions, rate.clicks, rate.baskets) for rate in rates
    }


def test_a_day_becomes_sums_by_position(version):
    day = ago(3)
    show(version, [1, 2, 3], product=9, clicks=[2], day=day)
    show(version, [1, 2], product=9, clicks=[1, 2], baskets=[2], day=day, hour=23)
    show(version, [4, 5, 6], product=9, day=day, hour=0)
    show(version, [7], surface=Surface.VISUAL_SEARCH, clicks=[7], day=day)
    done = roll_up()
    assert (done.days, done.closed) == (4, 2)
    assert sums() == {
        (day, "widget", 0): (3, 2, 1),
        (day, "widget", 1): (3, 1, 0),
        (day, "widget", 2): (3, 2, 1),
        (day, "widget", 3): (2, 0, 0),
        (day, "visual", 0): (1, 1, 0),
        (day, "visual", 1): (1, 1, 0),
    }


@pytest.mark.parametrize("rolled", [False, True])
def test_the_figures_are_the_same_before_and_after_a_roll_up_and_include_today(version, rolled):
    candidate = make_version("candidate", "candidate")
    for day in (ago(40), ago(5), ago(2), ago(1), ago(0)):
        show(version, [1, 2], product=9, clicks=[2], day=day, hour=0)
        show(candidate, [2, 1], product=9, day=day, hour=0)
    if rolled:
        for _ in range(3):
            roll_up()
        assert set(EventDay.objects.filter(closed_at=None).values_list("day", flat=True)) == {ago(1), ago(0)}
    assert figures(click_rates()) == {("candidate", "widget", 0): (4, 0, 0), ("drawn", "widget", 0): (4, 4, 0)}
    assert figures(click_rates(days=1)) == {("candidate", "widget", 0): (1, 0, 0), ("drawn", "widget", 0): (1, 1, 0)}
    assert figures(click_rates(days=90))["drawn", "widget", 0] == (5, 5, 0)
    assert figures(clicks_by_position(days=6)) == {
        ("candidate", "widget", 1): (4, 0, 0),
        ("candidate", "widget", 2): (4, 0, 0),
        ("drawn", "widget", 1): (4, 0, 0),
        ("drawn", "widget", 2): (4, 4, 0),
    }
    [newest, oldest] = click_rates()
    assert (newest.version, newest.rate) == ("candidate", 0) and oldest.rate == 1
    assert oldest.interval == pytest.approx((0.5101, 1), abs=1e-4)


def test_a_late_click_belongs_to_the_day_of_its_list_and_counts_once(version):
    early = show(version, [1, 2], product=9, day=ago(1), hour=0)
    roll_up()
    assert sums()[ago(1), "widget", 0] == (1, 0, 0)
    from shop_similarity.feedback.events import record

    record(early, "click", 2)
    for _ in range(3):
        roll_up()
    assert sums()[ago(1), "widget", 0] == (1, 1, 0)
    assert (ago(0), "widget", 0) not in sums()


def test_statements_do_not_grow_with_the_data(version, django_assert_num_queries):
    with django_assert_num_queries(2):
        click_rates()
    for number in range(3):
        other = make_version(f"v{number}", "candidate")
        for day in range(5):
            show(other, [1, 2, 3], product=number, clicks=[3], day=ago(day), hour=0)
    roll_up()
    for function in (click_rates, clicks_by_position):
        with django_assert_num_queries(4):
            function()


def test_preferences_count_each_click_once_before_and_after_the_day_is_closed(version):
    # 3 over 1 and 2; 5 over 4 and not over 1, which was chosen as well; nothing from a click on the first.
    for visitor, (day, hour) in enumerate(((ago(4), 1), (ago(4), 2), (ago(1), 0))):
        show(version, [1, 2, 3], product=9, clicks=[3], baskets=[3], day=day, hour=hour, visitor=visitor)
        show(version, [1, 4, 5], product=9, clicks=[1, 5], day=day, hour=hour, visitor=visitor)
        show(version, [1, 2, 3], product=9, clicks=[1], day=day, hour=hour, visitor=visitor)
        # No single product was looked at, or the product itself stood in its list.
        show(version, [1, 2], surface=Surface.VISUAL_SEARCH, clicks=[2], day=day, hour=hour, visitor=visitor)
        show(version, [9, 2], product=9, clicks=[2, 9], day=day, hour=hour, visitor=visitor)
    expected = [(9, 3, 1, 3, 2), (9, 3, 2, 3, 2), (9, 5, 4, 3, 2)]
    assert list(preferences()) == expected
    for _ in range(3):
        roll_up()
        assert list(preferences()) == expected
    assert {row.count for row in Preference.objects.all()} == {2}
    with override_settings(SHOP_SIMILARITY={**_settings(), "EVENT_DAYS": 1}):
        roll_up()
    assert set(Event.objects.dates("shown_at", "day")) == {ago(1)}
    assert list(preferences()) == expected


def _settings():
    from django.conf import settings

    return settings.SHOP_SIMILARITY


def test_raw_events_go_when_they_are_old_and_their_sums_stay(version, monkeypatch):
    monkeypatch.setattr(module, "_PORTION", 2)
    for day in (ago(31), ago(29), ago(0)):
        show(version, [1, 2], product=9, clicks=[2], day=day, hour=0)
    before = figures(click_rates(days=60))
    done = roll_up()
    assert done.removed_events == 2
    assert set(Event.objects.dates("shown_at", "day")) == {ago(29), ago(0)}
    assert figures(click_rates(days=60)) == before
    roll_up()
    assert figures(click_rates(days=60)) == before


def test_no_more_raw_events_than_allowed_and_whole_lists_go(version, caplog):
    for day in (ago(3), ago(1), ago(0)):
        for hour in range(2):
            show(version, [1, 2], product=9, clicks=[2], day=day, hour=hour)
    before = figures(click_rates())
    with override_settings(SHOP_SIMILARITY={**_settings(), "EVENT_ROWS": 5}):
        done = roll_up()
        # Both lists of three days ago and both of yesterday, which is closed for it.
        assert done.removed_events == 8 and Event.objects.count() == 4
        assert figures(click_rates()) == before and not caplog.records
        roll_up()
        assert figures(click_rates()) == before
    with override_settings(SHOP_SIMILARITY={**_settings(), "EVENT_ROWS": 3}):
        assert roll_up().removed_events == 2
    assert "raise EVENT_ROWS" in caplog.text
    assert list(Event.objects.values_list("kind", flat=True).order_by("kind")) == ["click", "impression"]


def test_preferences_are_bounded(version):
    Preference.objects.bulk_create(
        Preference(product_id=1, chosen_id=2, skipped_id=number, count=1 + number, last_day=ago(0))
        for number in range(10, 16)
    )
    Preference.objects.create(
        product_id=1, chosen_id=3, skipped_id=4, count=99, last_day=ago(module.PREFERENCE_DAYS + 1)
    )
    with override_settings(SHOP_SIMILARITY={**_settings(), "EVENT_ROWS": 4}):
        assert roll_up().removed_preferences == 3
    assert sorted(Preference.objects.values_list("skipped_id", flat=True)) == [12, 13, 14, 15]


def test_it_is_due_once_an_hour_where_there_is_something(version):
    assert not is_due()
    show(version, [1], product=9)
    assert is_due()
    roll_up()
    assert not is_due()
    EventDay.objects.update(rolled_up_at=timezone.now() - timedelta(seconds=module.EVERY_SECONDS + 1))
    assert is_due()


def test_the_command_says_what_it_did(version, capsys):
    show(version, [1], product=9, day=ago(2))
    call_command("roll_up_events")
    assert capsys.readouterr().out == "Summed 3 days, closed 1, removed 0 raw events and 0 preferences.\n"


@pytest.mark.django_db(transaction=True)
def test_of_several_workers_one_rolls_up(version):
    show(version, [1, 2], product=9, clicks=[2], day=ago(3), visitor=1)
    start = threading.Barrier(4)
    results = []

    def worker():
        try:
            start.wait()
            results.append(roll_up())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and any(not done.skipped for done in results)
    # However they fell together, the clicks were counted once.
    assert [row.count for row in Preference.objects.all()] == [1]
    assert sums()[ago(3), "widget", 0] == (1, 1, 0)


@pytest.mark.django_db(transaction=True)
def test_while_another_process_is_at_it_nothing_happens(version, capsys):
    show(version, [1], product=9)
    held = connection.copy()
    with held.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [database._number("roll-up")])
    try:
        assert roll_up().skipped
        call_command("roll_up_events")
        assert "Another process" in capsys.readouterr().out
        with held.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [database._number("roll-up")])
    finally:
        held.close()
    assert not roll_up().skipped
