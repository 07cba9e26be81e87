"""Who a client is: nothing that it says of itself makes it another one."""

from __future__ import annotations

import logging

import pytest
from django.test import RequestFactory

from shop_similarity import client_addresses
from shop_similarity.client_addresses import client_address


@pytest.fixture
def address(settings):
    def ask(forwarded: str | None, proxies: int | None = None, remote: str = "203.0.113.1") -> str:
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "PROXIES": proxies}
        headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
        return client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR=remote))

    return ask


@pytest.mark.parametrize("proxies", [None, 0])
@pytest.mark.parametrize("forwarded", [None, "198.51.100.1", "198.51.100.1, 198.51.100.2", "unknown", "", ",,,"])
def test_the_header_is_not_heeded_unless_the_shop_says_so(address, forwarded, proxies):
    assert address(forwarded, proxies) == "203.0.113.1"


def test_each_proxy_wrote_one_entry_from_the_end(address):
    chain = "198.51.100.9, 198.51.100.1, 10.0.0.7"
    assert address(chain, 1) == "10.0.0.7"
    assert address(chain, 2) == "198.51.100.1"


@pytest.mark.parametrize(
    "forwarded",
    [
        "",
        "198.51.100.1",
        "unknown, 10.0.0.7",
        "x" * 9_000 + ", 10.0.0.7",
        "198.51.100.1.2, 10.0.0.7",
        ", 10.0.0.7",
        "1",
    ],
)
def test_lists_that_are_short_or_malformed_are_no_other_client(address, forwarded):
    assert address(forwarded, 2) == "203.0.113.1"


@pytest.mark.parametrize(
    ("written", "counted"),
    [
        ("198.51.100.1:4711", "198.51.100.1"),
        ("[2001:db8:1:2:3:4:5:6]:443", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::ffff", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
    ],
)
def test_one_host_is_one_client_however_it_is_written(address, written, counted):
    assert address(written, 1) == counted
    assert address(None, remote=written) == counted


def test_what_rest_framework_is_told_counts_where_it_is_a_number(address, settings):
    settings.REST_FRAMEWORK = {"NUM_PROXIES": 1}
    assert address("198.51.100.1") == "198.51.100.1"
    assert address("198.51.100.1", 0) == "203.0.113.1"
    settings.REST_FRAMEWORK = {"NUM_PROXIES": None}
    assert address("198.51.100.1") == "203.0.113.1"


def test_a_server_at_a_socket_has_no_address_of_its_own(address):
    assert address(None, remote="") == ""
    assert address("198.51.100.1", 1, remote="") == "198.51.100.1"


def test_a_header_that_nobody_spoke_of_is_mentioned_once(address, caplog, monkeypatch):
    monkeypatch.setattr(client_addresses, "_is_warned", False)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            address("198.51.100.1")
    assert len(caplog.records) == 1
    assert "SHOP_SIMILARITY['PROXIES']" in caplog.text
