"""The API's events."""

from __future__ import annotations

import json

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from shop_similarity.feedback import tokens
from shop_similarity.models import Event
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db

URL = "/api/similarity/v1/events/"


@pytest.fixture(autouse=True)
def _settings(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "SEARCH_RATE": None, "EVENT_RATE": None}
    cache.clear()


@pytest.fixture
def listed(client):
    made = [make_product() for _ in range(5)]
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(5))
    return client.get(f"/api/similarity/v1/products/{made[0].pk}/similar/").json()


def send(client, body, content_type: str = "application/json"):
    return client.post(URL, body if isinstance(body, bytes | str) else json.dumps(body), content_type=content_type)


def problem(response, status: int, slug: str) -> dict:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    found = response.json()
    assert found["type"] == f"urn:problem-type:shop-similarity:{slug}"
    return found


def test_events_are_recorded_once(client, listed):
    second = listed["results"][1]["id"]
    events = [{"kind": "impression"}, {"kind": "click", "product": second}, {"kind": "basket", "product": second}]
    for _ in range(2):
        response = send(client, {"token": listed["token"], "events": events})
        assert response.status_code == 204
        assert response.content == b""
    recorded = {event.kind: event for event in Event.objects.all()}
    assert set(recorded) == {"impression", "click", "basket"}
    assert Event.objects.count() == 3
    assert str(recorded["click"].query_id) == listed["query_id"]
    assert recorded["click"].position == 2
    assert recorded["impression"].shown == [row["id"] for row in listed["results"]]
    assert all(event.visitor == "" for event in recorded.values())


def test_number_of_queries_is_constant(client, listed):
    counts = []
    for count in (1, 4):
        events = [{"kind": "click", "product": row["id"]} for row in listed["results"][:count]]
        with CaptureQueriesContext(connection) as queries:
            assert send(client, {"token": listed["token"], "events": events}).status_code == 204
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 4


@pytest.mark.parametrize("token", ["x", "a:b:c", "a" * 8_192])
def test_tokens_that_were_never_issued(client, listed, token):
    found = problem(send(client, {"token": token, "events": [{"kind": "impression"}]}), 422, "token-unusable")
    assert found["errors"][0]["name"] == "token"


def test_old_token(client, listed, monkeypatch):
    monkeypatch.setattr(tokens, "MAX_AGE_SECONDS", -1)
    problem(send(client, {"token": listed["token"], "events": [{"kind": "impression"}]}), 422, "token-unusable")


@pytest.mark.parametrize(
    "event", [{"kind": "click", "product": "999999"}, {"kind": "click"}, {"kind": "basket", "product": "no key"}]
)
def test_events_that_make_no_sense(client, listed, event):
    problem(send(client, {"token": listed["token"], "events": [event]}), 422, "unprocessable")
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "token"),
        ({"token": "x"}, "events"),
        ({"token": "x", "events": []}, "events"),
        ({"token": "x", "events": [{"kind": "impression"}] * 101}, "events"),
        ({"token": "x", "events": {"kind": "impression"}}, "events"),
        ({"token": "x", "events": [{"kind": "look"}]}, "events.0.kind"),
        ({"token": "x", "events": [{"kind": "click", "product": 12}]}, "events.0.product"),
        ({"token": "x", "events": [{"kind": "click", "product": "\u0000"}]}, "events.0.product"),
        ({"token": "x", "events": ["click"]}, "events.0"),
        ({"token": 3, "events": [{"kind": "impression"}]}, "token"),
        ([], ""),
        ("text", ""),
    ],
)
def test_wrong_bodies_are_named(client, body, name):
    found = problem(send(client, json.dumps(body)), 400, "invalid-values")
    assert name in {error["name"] for error in found["errors"]}


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"token": NaN}', b"[" * 60_000, b'"\xed\xa0\x80"'])
def test_bodies_that_are_no_json(client, body):
    problem(send(client, body), 400, "malformed-body")


@pytest.mark.parametrize("text", ["\\ud800", "\\udfff\\ud800", "a\\ud800"])
@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"token": "x", "events": [{"kind": "TEXT"}]}', "events.0.kind"),
        ('{"token": "x", "events": [{"kind": "click", "product": "TEXT"}]}', "events.0.product"),
    ],
)
def test_lone_surrogates_anywhere(client, body, name, text):
    found = problem(send(client, body.replace("TEXT", text)), 400, "invalid-values")
    assert [error["name"] for error in found["errors"]] == [name]


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "x"])
def test_members_that_have_no_name_here_are_ignored(client, text):
    more = f'"{text}": ["{text}"], "more": "{text}"'
    body = f'{{{more}, "token": "x", "events": [{{"kind": "click", "product": "1", {more}}}]}}'
    assert problem(send(client, body), 422, "token-unusable")["errors"][0]["name"] == "token"


def test_lone_surrogates(client):
    problem(send(client, '{"token": "\\ud800", "events": [{"kind": "impression"}]}'), 400, "invalid-values")


def test_large_bodies(client):
    problem(send(client, b" " * 70_000), 413, "too-large")


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_other_content_types(client, content_type):
    problem(send(client, b"{}", content_type), 415, "unsupported-media-type")
