"""Workers leave a sign of life, and nobody else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from shop_similarity.embedding import heartbeat
from shop_similarity.models import Heartbeat, OutboxEntry, SweepRun
from shop_similarity.workers.clock import look_round
from shop_similarity.workers.identity import worker_name
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def no_worker(monkeypatch):
    monkeypatch.setattr(heartbeat, "_started_at", None)
    monkeypatch.setattr(heartbeat, "_next", 0.0)


@pytest.fixture
def worker(no_worker):
    heartbeat.begin()


def _dashboard(client) -> str:
    return " ".join(client.get(reverse("admin:shop_similarity_dashboard")).content.decode().split())


def test_what_a_command_does_is_no_sign_of_a_worker(no_worker, admin_client, capsys):
    make_version()
    call_command("embed_products", queue_only=True, verbosity=0)
    assert SweepRun.objects.exists()
    assert heartbeat.last_seen() is None
    assert "No worker has run in the last two weeks." in _dashboard(admin_client)
    call_command("similarity_status")
    assert "No worker has run in the last two weeks" in capsys.readouterr().out


def test_worker_without_anything_to_do_is_seen(worker, admin_client, capsys):
    look_round(lambda: None)
    row = Heartbeat.objects.get()
    assert row.worker == worker_name()
    assert timezone.now() - row.seen_at < timedelta(minutes=1)
    assert "A worker was last running then." in _dashboard(admin_client)
    call_command("similarity_status")
    assert f"A worker was last running {row.seen_at.isoformat()}" in capsys.readouterr().out


def test_it_beats_now_and_then_and_forgets_who_is_long_gone(worker, monkeypatch):
    long_ago = timezone.now() - timedelta(days=15)
    Heartbeat.objects.create(worker="gone", started_at=long_ago, seen_at=long_ago)
    heartbeat.beat("a")
    first = Heartbeat.objects.get().seen_at
    heartbeat.beat("a")
    assert Heartbeat.objects.get().seen_at == first
    monkeypatch.setattr(heartbeat, "_next", 0.0)
    heartbeat.beat("a")
    assert Heartbeat.objects.get().seen_at > first


def test_photos_that_wait_while_no_worker_runs_are_warned_of(no_worker, admin_client):
    make_version()
    make_photos_without_files([make_product()])
    call_command("embed_products", queue_only=True, verbosity=0)
    OutboxEntry.objects.update(created_at=timezone.now() - timedelta(minutes=11))
    assert "see whether one runs" in _dashboard(admin_client)


def test_status_tells_of_products_without_a_photo(capsys):
    make_version()
    make_photos_without_files([make_product(), make_product()], 2)
    make_product()
    call_command("similarity_status")
    said = capsys.readouterr().out
    assert "3 products, 2 of them with 4 photos" in said
    assert "1 of the products have no photo" in said
    assert "(0.0% of the photos, 0.0% of the products)" in said
