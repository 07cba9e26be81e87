"""The plugin's checks in the view of django-health-check 4."""

from __future__ import annotations

import asyncio

import pytest

from shop_similarity.monitoring import health
from tests.shop_similarity.factories import make_version

pytest.importorskip("health_check.base")

CHECKS = [
    f"shop_similarity.contrib.health_check.{name}"
    for name in ("Database", "Queue", "Worker", "Index", "Recall", "Storage", "Weights")
]


@pytest.fixture(autouse=True)
def _anew():
    health.forget()
    yield
    health.forget()


def answer(rf, checks):
    from health_check.views import HealthCheckView

    return asyncio.run(HealthCheckView.as_view(checks=checks)(rf.get("/health/", {"format": "json"})))


@pytest.mark.django_db(transaction=True)
def test_its_view_shows_them(rf):
    make_version()
    response = answer(rf, CHECKS)
    assert response.status_code == 500
    text = response.content.decode()
    assert '"similar products: database": "OK"' in text
    assert '"similar products: queue": "OK"' in text
    assert "No worker has run in the last two weeks." in text
    health.forget()
    assert answer(rf, CHECKS[:2]).status_code == 200


def test_there_is_one_for_each_check():
    from shop_similarity.contrib import health_check

    assert {getattr(health_check, name).name for name in health_check.__all__} == set(health.NAMES)
