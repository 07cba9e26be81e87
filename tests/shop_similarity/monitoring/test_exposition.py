"""What Prometheus reads: the database's state and what processes counted, of several processes together."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from django.urls import reverse
from django.utils import timezone

from shop_similarity import meters
from shop_similarity.models import Heartbeat, OutboxEntry, RecallSample
from shop_similarity.monitoring import exposition, state
from shop_similarity.search.cache import cached_similar_products
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

pytest.importorskip("prometheus_client")

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "a-token-of-many-characters"


def read(text: str) -> dict[tuple, float]:
    """The samples of an exposition: by name and labels."""
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def counting(settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "METRICS": True,
        "MONITORING_TOKEN": TOKEN,
        "WIDGET_CACHE_SECONDS": 60,
    }


@pytest.mark.django_db
def test_the_state_of_the_database(counting):
    active, candidate = make_version("old"), make_version("new", "candidate")
    photos = make_photos_without_files([make_product()], 4)
    now = timezone.now()
    for version, photo, values in (
        (active, photos[0], {}),
        (active, photos[1], {"failed_at": now}),
        (candidate, photos[2], {"priority": 20}),
        (candidate, photos[3], {"due_at": now + timedelta(hours=1)}),
    ):
        OutboxEntry.objects.create(version=version, product_id=photo.product_id, image_id=photo.pk, **values)
    OutboxEntry.objects.filter(image_id=photos[0].pk).update(created_at=now - timedelta(seconds=90))
    Heartbeat.objects.create(worker="here|1|", started_at=now, seen_at=now)
    RecallSample.objects.create(
        version=active, measured_at=now, recall=0.97, filtered_recall=0.96, k=10, products=50, path="codes"
    )
    found = read(exposition.exposition()[0].decode())
    assert found["shop_similarity_database_up",] == 1
    assert [found["shop_similarity_queue_photos", kind] for kind in ("ready", "later", "claimed")] == [2, 1, 0]
    assert found["shop_similarity_version_photos", "failed", "old"] == 1
    assert found["shop_similarity_version_photos", "new", "ready"] == 1
    assert found["shop_similarity_version_active", "old"] == 1
    assert found["shop_similarity_version_active", "new"] == 0
    assert found["shop_similarity_queue_age_seconds", "old", "saved"] == pytest.approx(90, abs=20)
    assert found["shop_similarity_queue_age_seconds", "backfill", "old"] == 0
    assert found["shop_similarity_workers",] == 1
    assert found["shop_similarity_index_ready", "old"] == 0
    assert found["shop_similarity_recall", "none", "old"] == 0.97
    assert found["shop_similarity_recall", "category", "old"] == 0.96


@pytest.mark.django_db
def test_searches_lists_and_photos_are_counted(counting):
    products = [make_product(), make_product()]
    store_vectors(make_version(), make_photos_without_files(products), random_vectors(2))
    before = read(exposition.exposition()[0].decode())
    for _ in range(3):
        assert cached_similar_products(products[0], 1)
    meters.count_photos("embedded", 5)
    after = read(exposition.exposition()[0].decode())

    def grown(*sample: str) -> float:
        return after[sample] - before[sample]

    assert grown("shop_similarity_search_seconds_count", "exact") == 1
    assert grown("shop_similarity_search_seconds_count", "index") == 0
    assert after["shop_similarity_search_seconds_sum", "exact"] > before["shop_similarity_search_seconds_sum", "exact"]
    assert grown("shop_similarity_lists_total", "no") == 1
    assert grown("shop_similarity_lists_total", "yes") == 2
    assert grown("shop_similarity_photos_total", "embedded") == 5
    assert not [name for name, *_ in after if not name.startswith("shop_similarity_")], "the shop's stay the shop's"


@pytest.mark.django_db
def test_a_database_that_is_away_leaves_what_was_counted(counting, monkeypatch):
    def away():
        raise OperationalError("connection to server at 10.0.0.7 failed")

    monkeypatch.setattr(state, "queues", away)
    text = exposition.exposition()[0].decode()
    found = read(text)
    assert found["shop_similarity_database_up",] == 0
    assert ("shop_similarity_lists_total", "no") in found
    assert not [name for name, *_ in found if "queue" in name]
    assert "10.0.0.7" not in text


@pytest.mark.django_db
def test_the_view_is_for_the_token_and_staff(client, admin_client, counting, settings):
    make_version()
    address = reverse("shop_similarity_monitoring:metrics")
    assert client.get(address).status_code == 403
    assert client.get(address, headers={"Authorization": "Bearer wrong"}).status_code == 403
    answer = client.get(address, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain; version=")
    assert ("shop_similarity_queue_photos", "ready") in read(answer.content.decode())
    assert admin_client.get(address).status_code == 200
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "METRICS": False}
    assert admin_client.get(address).status_code == 404


COUNT = """
import sys
import django
django.setup()
from shop_similarity import meters
meters.count_photos("embedded", int(sys.argv[1]))
meters.count_search("codes", 0.03)
"""
TELL = """
import django
django.setup()
from shop_similarity.monitoring.exposition import registry
from prometheus_client import generate_latest
print(generate_latest(registry(of_database=False)).decode())
"""


def test_several_processes_are_added_up(tmp_path):
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "SHOP_TEST_SIMILARITY": '{"METRICS": true}',
    }

    def run(script: str, *arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    run(COUNT, "3")
    run(COUNT, "4")
    found = read(run(TELL))
    assert found["shop_similarity_photos_total", "embedded"] == 7
    assert found["shop_similarity_search_seconds_count", "codes"] == 2
    assert found["shop_similarity_lists_total", "yes"] == 0


@pytest.mark.django_db
def test_a_shop_may_register_the_state_with_its_own(counting):
    from prometheus_client import CollectorRegistry, generate_latest

    make_version()
    registry = CollectorRegistry(auto_describe=True)
    with pytest.MonkeyPatch.context() as patch:
        # Registered when the shop starts, which may be without a database.
        patch.setattr(connection, "cursor", lambda *args: pytest.fail("registering asks no database"))
        registry.register(exposition.DatabaseState())
    assert b"shop_similarity_workers 0.0" in generate_latest(registry)
