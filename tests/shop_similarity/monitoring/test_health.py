"""Health checks: each failure is a sentence, nothing hangs, and strangers hear no details."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from io import StringIO

import pytest
from django.core.files.storage import FileSystemStorage
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from shop_similarity.catalogue import get_catalogue
from shop_similarity.models import Heartbeat, OutboxEntry, RecallSample
from shop_similarity.monitoring import health
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

TOKEN = "a-token-of-many-characters"


@pytest.fixture(autouse=True)
def _anew():
    health.forget()
    yield
    health.forget()


@pytest.fixture
def version():
    return make_version()


def _heartbeat(age: float = 0.0) -> None:
    seen_at = timezone.now() - timedelta(seconds=age)
    Heartbeat.objects.create(worker="here|1|", started_at=seen_at, seen_at=seen_at)


def _waiting(version, age: float, priority: int = 0) -> None:
    (photo,) = make_photos_without_files([make_product()])
    entry = OutboxEntry.objects.create(
        version=version, product_id=photo.product_id, image_id=photo.pk, priority=priority
    )
    OutboxEntry.objects.filter(pk=entry.pk).update(created_at=timezone.now() - timedelta(seconds=age))


def _recall(version, share: float) -> None:
    RecallSample.objects.create(
        version=version, measured_at=timezone.now(), recall=share, k=10, products=50, path="codes"
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "prepare", "sentence"),
    [
        ("database", lambda version: None, "Pages search with drawn."),
        ("queue", lambda version: None, "No saved photo waits."),
        ("queue", lambda version: _waiting(version, 60), "has waited for 60 s"),
        # A backfill takes as long as it takes.
        ("queue", lambda version: _waiting(version, 10_000, OutboxEntry.Priority.BACKFILL), "No saved photo waits."),
        ("worker", lambda version: _heartbeat(), "last alive 0 s ago"),
        ("index", lambda version: None, "too few photos"),
        ("recall", lambda version: None, "Not measured yet."),
        ("recall", lambda version: _recall(version, 0.99), "found 0.990"),
        ("storage", lambda version: None, "answers"),
    ],
)
def test_well(name, prepare, sentence, version):
    prepare(version)
    result = health.check(name)
    assert result.is_healthy, result
    assert sentence in result.sentence


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "prepare", "sentence"),
    [
        ("queue", lambda version: _waiting(version, 1_000), "waited for a worker for 1000 s, longer than HEALTH_QUEUE"),
        ("worker", lambda version: None, "No worker has run in the last two weeks."),
        ("worker", lambda version: _heartbeat(500), "last alive 500 s ago, longer than HEALTH_WORKER_SECONDS (120)"),
        ("recall", lambda version: _recall(version, 0.5), "found 0.500 of what the exact one finds"),
        ("weights", lambda version: None, "weights of drawn are not in the storage"),
    ],
)
def test_failing(name, prepare, sentence, version):
    prepare(version)
    result = health.check(name)
    assert not result.is_healthy
    assert sentence in result.sentence


@pytest.mark.django_db
def test_limits_of_zero_switch_a_check_off(version, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "HEALTH_QUEUE_SECONDS": 0, "HEALTH_WORKER_SECONDS": 0}
    _waiting(version, 1_000_000)
    assert health.check("queue").is_healthy
    assert health.check("worker").is_healthy


@pytest.mark.django_db
def test_an_index_that_was_cut_off_or_is_missing_is_told(version, monkeypatch):
    from shop_similarity.monitoring import state

    def is_(kind):
        monkeypatch.setattr(state, "indexes", lambda: [state.Index(version.name, kind, 0, 0)])

    is_("invalid")
    assert "cut off while it was built" in health.check("index").sentence
    is_("building")
    assert health.check("index").is_healthy
    is_("absent")
    monkeypatch.setattr(health, "estimate", lambda rows: 1_000_000)
    assert "about 1000000 photos and no index" in health.check("index").sentence


@pytest.mark.django_db
def test_a_statement_that_takes_too_long_is_ended(version, monkeypatch):
    def slow() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")
        return ""

    monkeypatch.setattr(health, "SECONDS", 0.2)
    monkeypatch.setitem(health._GROUPS[0], "database", slow)
    began = time.monotonic()
    result = health.check("database")
    assert time.monotonic() - began < 3
    assert (result.is_healthy, result.sentence) == (False, "The database does not answer (OperationalError).")


@pytest.mark.django_db
def test_a_storage_that_lost_its_photos_is_told(version):
    photos = make_photos_without_files([make_product()], 3)
    store_vectors(version, photos[:2], random_vectors(2))
    assert health.check("storage").is_healthy, "two may have been deleted"
    store_vectors(version, photos[2:], random_vectors(1))
    assert "has none of 3 photos that it had" in health.check("storage").sentence


class HangingStorage(FileSystemStorage):
    """A server that is away, until the test lets go."""

    let_go = threading.Event()
    asked = 0

    def exists(self, name: str) -> bool:
        HangingStorage.asked += 1
        self.let_go.wait(20)
        return True


@pytest.mark.django_db(transaction=True)
def test_a_storage_that_hangs_is_told_in_time_and_asked_once(monkeypatch):
    make_version()
    _heartbeat()
    monkeypatch.setattr(type(get_catalogue()), "storage", HangingStorage())
    HangingStorage.let_go.clear()
    HangingStorage.asked = 0
    try:
        began = time.monotonic()
        for _ in range(3):
            results = {result.name: result for result in health.examine(seconds=0.5)}
        assert time.monotonic() - began < 5
        assert results["storage"].sentence == "No answer within 0.5 s."
        assert [name for name, result in results.items() if not result.is_healthy] == ["storage"]
        assert HangingStorage.asked == 1
    finally:
        HangingStorage.let_go.set()


@pytest.mark.django_db(transaction=True)
def test_an_answer_is_kept_for_a_moment_so_that_nobody_can_wear_the_database_out(monkeypatch):
    make_version()
    asked = []
    ask = health._GROUPS[0]["queue"]
    monkeypatch.setitem(health._GROUPS[0], "queue", lambda: asked.append(1) or ask())
    for _ in range(20):
        health.examine(["queue"])
    assert len(asked) == 1
    with pytest.raises(KeyError, match="nothing"):
        health.examine(["nothing"])


@pytest.mark.django_db(transaction=True)
def test_strangers_hear_whether_all_is_well_and_no_more(client, admin_client, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MONITORING_TOKEN": TOKEN}
    make_version("secret-name")
    address = reverse("shop_similarity_monitoring:health")
    answer = client.get(address)
    assert (answer.status_code, answer.json()) == (503, {"status": "failing"})
    assert "no-store" in answer["Cache-Control"]
    _heartbeat()
    health.forget()
    answer = client.get(address)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    for who, headers in ((client, {"Authorization": f"Bearer {TOKEN}"}), (admin_client, {})):
        details = who.get(address, headers=headers).json()["checks"]
        assert list(details) == list(health.DEFAULT)
        assert details["database"] == {"status": "ok", "detail": "Pages search with secret-name."}
    for wrong in ("Bearer x", f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", "Bearer é"):
        assert "checks" not in client.get(address, headers={"Authorization": wrong}).json()
    # A wrong token is not made good by a session.
    assert "checks" not in admin_client.get(address, headers={"Authorization": "Bearer x"}).json()
    one = client.get(reverse("shop_similarity_monitoring:health-check", args=["database"]))
    assert (one.status_code, one.json()) == (200, {"status": "ok"})
    assert client.get(reverse("shop_similarity_monitoring:health-check", args=["nothing"])).status_code == 404
    assert client.post(address).status_code == 405


@pytest.mark.django_db(transaction=True)
def test_staff_without_the_permission_is_a_stranger(client, django_user_model):
    make_version()
    client.force_login(django_user_model.objects.create_user("clerk", password="x", is_staff=True))
    assert "checks" not in client.get(reverse("shop_similarity_monitoring:health")).json()


@pytest.mark.django_db(transaction=True)
def test_the_command_exits_with_1_where_a_check_fails():
    make_version()
    out = StringIO()
    with pytest.raises(CommandError, match="Not all is well") as raised:
        call_command("similarity_health", "worker", "database", stdout=out)
    assert raised.value.returncode == 1
    assert out.getvalue().splitlines() == [
        "ok      database  Pages search with drawn.",
        "FAILING worker    No worker has run in the last two weeks.",
    ]
    _heartbeat()
    health.forget()
    out = StringIO()
    call_command("similarity_health", "--json", stdout=out)
    assert set(json.loads(out.getvalue())) == set(health.DEFAULT)
    with pytest.raises(CommandError, match="no check 'nothing'"):
        call_command("similarity_health", "nothing")
    with pytest.raises(CommandError, match="Not all is well"):
        call_command("similarity_health", "--this-host", stdout=StringIO())
