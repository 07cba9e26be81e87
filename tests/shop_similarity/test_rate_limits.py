"""How often one client may do something, whichever way it comes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.cache.backends.base import BaseCache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import RequestFactory
from django.urls import reverse

from shop_similarity import rate_limits
from shop_similarity.rate_limits import parse_rate, seconds_to_wait, take_back
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import make_version

API = "/api/similarity/v1/"


@pytest.fixture(autouse=True)
def _no_old_counts():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def configure(settings):
    def change(**values):
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **values}

    return change


@pytest.fixture
def clock(monkeypatch):
    """clock.now is the time by which is counted."""

    class Clock:
        now = 1_000_000.0

    monkeypatch.setattr(rate_limits, "time", SimpleNamespace(time=lambda: Clock.now))
    return Clock


def _photo(name: str) -> dict:
    return {name: SimpleUploadedFile("photo.jpg", product_photo("mug", "red"), "image/jpeg")}


def _upload_by_page(client) -> int:
    return client.post(reverse("shop_similarity:visual-search"), _photo("photo")).status_code


def _upload_by_api(client) -> int:
    return client.post(f"{API}search/image/", _photo("image")).status_code


def _report_by_page(client) -> int:
    return client.post(reverse("shop_similarity:events"), b"{}", content_type="text/plain").status_code


def _report_by_api(client) -> int:
    return client.post(f"{API}events/", json.dumps({}), content_type="application/json").status_code


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("rate", "by_page", "by_api"),
    [("UPLOAD_RATE", _upload_by_page, _upload_by_api), ("EVENT_RATE", _report_by_page, _report_by_api)],
)
@pytest.mark.parametrize("is_logged_in", [False, True])
def test_pages_and_api_count_together(client, configure, rate, by_page, by_api, is_logged_in):
    configure(**{rate: "4/hour", "VISUAL_SEARCH_WAIT_SECONDS": 0})
    make_version()
    if is_logged_in:
        client.force_login(User.objects.create_user("shopper"))
    assert 429 not in [send(client) for send in (by_page, by_page, by_api, by_api)]
    assert [by_page(client), by_api(client)] == [429, 429]


@pytest.mark.django_db
def test_uploads_searches_and_events_count_apart(client, configure):
    configure(UPLOAD_RATE="1/hour", SEARCH_RATE="1/hour", EVENT_RATE="1/hour", VISUAL_SEARCH_WAIT_SECONDS=0)
    make_version()
    sent = [_upload_by_page(client), _report_by_page(client), client.get(f"{API}products/1/similar/").status_code]
    assert 429 not in sent


def test_a_period_is_allowed_once_also_around_its_turn(configure, clock):
    configure(UPLOAD_RATE="10/min")
    request = RequestFactory().get("/")
    allowed = []
    for quarter in range(4 * 180):
        clock.now = 1_000_000 + quarter / 4
        if not seconds_to_wait(request, "upload_rate"):
            allowed.append(clock.now)
    # A twentieth of the period is the grain of the count. Those that were refused in between cost nothing.
    assert max(sum(start <= moment < start + 57 for moment in allowed) for start in allowed) == 10
    assert len(allowed) >= 30


def test_who_comes_again_when_told_is_let_in(configure, clock):
    configure(SEARCH_RATE="3/hour")
    request = RequestFactory().get("/")
    for _ in range(3):
        assert not seconds_to_wait(request, "search_rate")
        clock.now += 100
    seconds = seconds_to_wait(request, "search_rate")
    assert 0 < seconds <= 3_600 - 300 + 180
    clock.now += seconds - 2
    assert seconds_to_wait(request, "search_rate")
    clock.now += 2
    assert not seconds_to_wait(request, "search_rate")


def test_of_many_at_once_none_is_overlooked(configure):
    configure(UPLOAD_RATE="5/hour")
    request = RequestFactory().get("/")
    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(lambda _number: seconds_to_wait(request, "upload_rate"), range(40)))
    assert waits.count(0) <= 5


def test_clients_behind_proxies_are_told_apart_as_the_api_does(configure, settings):
    configure(EVENT_RATE="1/day")

    def wait(forwarded):
        return seconds_to_wait(RequestFactory().get("/", headers={"X-Forwarded-For": forwarded}), "event_rate")

    settings.REST_FRAMEWORK = {"NUM_PROXIES": 1}
    # What a client claims itself does not help it.
    assert not wait("198.51.100.1, 192.0.2.1")
    assert wait("198.51.100.2, 192.0.2.1")
    assert not wait("198.51.100.1, 192.0.2.2")
    settings.REST_FRAMEWORK = {}
    assert not wait("192.0.2.9")
    assert wait("192.0.2.9")
    configure(EVENT_RATE=None)
    assert not wait("192.0.2.9")


def test_hash_of_a_client_changes_with_the_time(configure, clock):
    configure(EVENT_RATE="9/min")
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
    for _ in range(2):
        seconds_to_wait(request, "event_rate")
        clock.now += 60
    keys = list(cache._cache)
    assert len(keys) == 2
    assert not any("192.0.2" in key for key in keys)


def test_a_shop_without_a_cache_is_not_limited(configure, settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    configure(EVENT_RATE="1/day")
    assert [seconds_to_wait(RequestFactory().get("/"), "event_rate") for _ in range(3)] == [0, 0, 0]


class Away(BaseCache):
    """A cache whose server is gone."""

    def __init__(self, *args, **kwargs):
        super().__init__({})

    def add(self, *args, **kwargs):
        raise ConnectionError("refused")

    get = get_many = incr = decr = set = add


class Forgetful(Away):
    """A cache whose client keeps silent about a server that is gone."""

    def add(self, *args, **kwargs):
        return False

    def incr(self, key, *args, **kwargs):
        raise ValueError(f"Key {key!r} not found")

    def get_many(self, *args, **kwargs):
        return {}

    decr = incr


@pytest.mark.parametrize("backend", ["Away", "Forgetful"])
def test_while_the_cache_is_away_each_process_counts(configure, settings, caplog, monkeypatch, backend):
    monkeypatch.setattr(rate_limits, "_asked_again_at", 0.0)
    rate_limits._own_counts.clear()
    settings.CACHES = {"default": {"BACKEND": f"tests.shop_similarity.test_rate_limits.{backend}"}}
    configure(EVENT_RATE="3/day")
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
    assert [bool(seconds_to_wait(request, "event_rate")) for _ in range(5)] == [False] * 3 + [True] * 2
    # It is asked again after a while, and said once how it is.
    monkeypatch.setattr(rate_limits, "_asked_again_at", 1e-9)
    assert seconds_to_wait(request, "event_rate")
    take_back(request, "event_rate")
    assert not seconds_to_wait(request, "event_rate")
    assert sum("The cache does not answer" in record.message for record in caplog.records) == 1
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    monkeypatch.setattr(rate_limits, "_asked_again_at", 1e-9)
    assert not seconds_to_wait(request, "event_rate")
    assert rate_limits._asked_again_at == 0


@pytest.mark.django_db
def test_a_page_and_the_api_do_not_fail_with_the_cache(client, configure, settings, monkeypatch):
    monkeypatch.setattr(rate_limits, "_asked_again_at", 0.0)
    rate_limits._own_counts.clear()
    settings.CACHES = {"default": {"BACKEND": "tests.shop_similarity.test_rate_limits.Away"}}
    configure(EVENT_RATE="2/hour")
    assert [_report_by_page(client), _report_by_api(client), _report_by_page(client)] == [400, 400, 429]


def test_a_client_that_forges_addresses_is_one_client(configure):
    configure(EVENT_RATE="5/day")
    waits = [
        seconds_to_wait(RequestFactory().get("/", headers={"X-Forwarded-For": f"198.51.100.{number}"}), "event_rate")
        for number in range(100)
    ]
    assert waits.count(0) == 5


def test_a_network_of_addresses_is_one_client(configure):
    configure(EVENT_RATE="5/day")
    waits = [
        seconds_to_wait(RequestFactory().get("/", REMOTE_ADDR=f"2001:db8::{number:x}"), "event_rate")
        for number in range(50)
    ]
    assert waits.count(0) == 5


def test_rates_are_written_as_for_rest_framework():
    assert parse_rate("600/min") == (600, 60) and parse_rate("5/s") == (5, 1) and parse_rate("1/day") == (1, 86_400)
    with pytest.raises(ValueError, match="is no rate"):
        parse_rate("many")
