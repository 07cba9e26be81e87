"""Events are rolled up by real workers, by the clock of the database, and two of them do it once."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from shop_similarity.feedback.daily_sums import today
from shop_similarity.models import DailyStatistic, Event, EventDay, Preference
from tests.shop_similarity.factories import make_version
from tests.shop_similarity.feedback.lists import show
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.mark.long
def test_workers_roll_up_and_trim(celery_worker_process):
    version = make_version()
    for days in (40, 3, 0):
        show(version, [1, 2], product=9, clicks=[2], day=today() - timedelta(days=days), hour=0, visitor=days)
    environment = {"SHOP_TEST_SIMILARITY": json.dumps({"POLL_SECONDS": 0.2, "SWEEP_SECONDS": 0})}
    workers = [celery_worker_process(env=environment, wait=False) for _ in range(2)]
    wait_until(
        lambda: Event.objects.count() <= 4 and EventDay.objects.filter(day=today()).exists(),
        lambda: "".join(worker.log[-2000:] for worker in workers),
    )
    lists = DailyStatistic.objects.filter(position=0)
    assert {(row.impressions, row.clicks) for row in lists} == {(1, 1)} and lists.count() == 3
    assert [row.count for row in Preference.objects.all()] == [2]
    for worker in workers:
        assert "Traceback" not in worker.log
