"""State and model versions by the API: who may see and change what."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from shop_similarity.models import Heartbeat, ModelVersion
from shop_similarity.rollout.status import status
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db

API = "/api/similarity/v1/"


@pytest.fixture(autouse=True)
def _settings(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "SEARCH_RATE": None}
    cache.clear()


@pytest.fixture
def versions():
    photos = make_photos_without_files([make_product() for _ in range(3)])
    active = make_version(
        "one",
        metrics={
            "evaluation": {"retrieval": {"recall": 0.5, "by_group": {"recall": {"sums": [0.5], "counts": [1]}}}},
            "seen": {"photos": "hashes"},
        },
        weights_source="a secret place",
    )
    candidate = make_version("two", ModelVersion.State.CANDIDATE)
    store_vectors(active, photos, random_vectors(3))
    store_vectors(candidate, photos[:2], random_vectors(2))
    return active, candidate


def log_in(client, *permissions: str) -> User:
    user = User.objects.create_user(f"robot {User.objects.count()}")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    client.force_login(user)
    return user


@pytest.mark.parametrize("path", ["status/", "versions/", "versions/one/", "versions/one/activate/"])
def test_nobody_without_the_permission(client, versions, path):
    method = client.post if path.endswith("activate/") else client.get
    for log in (None, "add_modelversion"):
        if log:
            log_in(client, log)
        response = method(API + path)
        assert response.status_code == 403
        assert response["Content-Type"] == "application/problem+json"
    assert ModelVersion.objects.active().name == "one"


def test_wrong_credentials_are_told(client, versions):
    response = client.get(API + "status/", headers={"Authorization": "Basic bm86Ym9keQ=="})
    assert response.status_code in (401, 403)
    assert response.json()["type"].endswith(":not-authenticated")


def test_viewers_may_not_activate(client, versions):
    log_in(client, "view_dashboard")
    assert client.post(API + "versions/two/activate/").status_code == 403


def test_status(client, versions):
    log_in(client, "view_dashboard")
    data = client.get(API + "status/").json()
    assert data["active_version"] == "one"
    assert data["images"] == data["embedded"] == 3
    assert data["coverage"] == 1.0
    assert "versions" not in data


def test_the_status_tells_what_the_command_tells(client, versions):
    make_product()
    seen = timezone.now()
    Heartbeat.objects.create(worker="one", started_at=seen, seen_at=seen)
    log_in(client, "view_dashboard")
    data = client.get(API + "status/").json()
    # Each version is told of at an address of its own.
    told = {name: value for name, value in status().items() if name != "versions"}
    assert parse_datetime(data.pop("worker_seen_at")) == parse_datetime(told.pop("worker_seen_at")) == seen
    assert data == told
    assert (data["products"], data["products_with_images"]) == (4, 3)


def test_versions(client, versions):
    log_in(client, "view_dashboard")
    response = client.get(API + "versions/", {"limit": 1})
    data = response.json()
    assert data["count"] == 2
    assert [row["name"] for row in data["results"]] == ["two"]
    assert data["previous"] is None
    following = client.get(data["next"]).json()
    assert [row["name"] for row in following["results"]] == ["one"]
    assert following["results"][0]["metrics"] == {"evaluation": {"retrieval": {"recall": 0.5}}}
    assert following["next"] is None


def test_where_the_weights_are_is_not_told(client, versions):
    log_in(client, "view_dashboard")
    for path in ("versions/", "versions/one/", "status/"):
        response = client.get(API + path)
        assert response.status_code == 200
        assert b"secret" not in response.content
        assert b'"weights"' not in response.content


def test_one_version_says_what_it_lacks(client, versions):
    log_in(client, "view_dashboard")
    data = client.get(API + "versions/two/").json()
    assert data["state"] == "candidate"
    assert data["embedded"] == 2
    assert data["is_ready"] is False
    assert "1 of the 3 photos" in data["obstacles"][0]
    assert client.get(API + "versions/none/").status_code == 404
    assert client.get(API + "versions/%00/").status_code == 404


def test_number_of_queries_is_constant(client, versions):
    log_in(client, "view_dashboard")
    counts = []
    for extra in (0, 6):
        for number in range(extra):
            make_version(f"more {number}", ModelVersion.State.RETIRED)
        with CaptureQueriesContext(connection) as listed:
            assert len(client.get(API + "versions/").json()["results"]) == 2 + extra
        with CaptureQueriesContext(connection) as status:
            client.get(API + "status/")
        with CaptureQueriesContext(connection) as one:
            client.get(API + "versions/two/")
        counts.append((len(listed), len(status), len(one)))
    assert counts[0] == counts[1]
    # Two are the session's and the user's, two the permissions'.
    assert counts[0][0] <= 10
    assert counts[0][1] <= 12
    assert counts[0][2] <= 20


def activate(client, name: str, **body):
    return client.post(f"{API}versions/{name}/activate/", json.dumps(body), content_type="application/json")


def test_worse_version_is_refused_unless_forced(client, versions):
    log_in(client, "activate_modelversion")
    response = activate(client, "two")
    assert response.status_code == 409
    assert response.json()["type"].endswith(":conflict")
    response = activate(client, "two", force=True, note="for a test")
    # A photo is missing yet: a worker switches when it is there.
    assert response.status_code == 202
    assert response.json()["activation_requested_at"]
    assert "for a test" in response.json()["activation_note"]
    assert activate(client, "one").status_code == 200


def test_first_version_is_active_at_once(client):
    make_version("first", ModelVersion.State.CANDIDATE)
    log_in(client, "activate_modelversion")
    response = activate(client, "first")
    assert response.status_code == 200
    assert response.json()["state"] == "active"


def test_going_back(client, versions):
    log_in(client, "activate_modelversion")
    ModelVersion.objects.filter(name="two").update(state=ModelVersion.State.STANDBY)
    response = activate(client, "two", note="clicks fell")
    assert response.status_code == 200
    assert response.json()["state"] == "active"
    assert ModelVersion.objects.get(name="one").state == "standby"


def test_session_needs_the_csrf_token(versions):
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    log_in(client, "activate_modelversion")
    assert activate(client, "two").status_code == 403


@pytest.mark.parametrize("body", [{"force": "yes"}, {"note": "x" * 501}, {"note": "\u0000"}])
def test_wrong_bodies(client, versions, body):
    log_in(client, "activate_modelversion")
    assert activate(client, "two", **body).status_code == 400


def test_unknown_version(client, versions):
    log_in(client, "activate_modelversion")
    assert activate(client, "none").status_code == 404
