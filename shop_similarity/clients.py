"""Who a client is where votes are counted, without anything stored that says who it was.

A client is the network that its address belongs to: cookies are dropped and accounts opened at will, addresses cost
something. What leaves this module is hashed with the shop's secret key and with what it is about, so that the digests
of one client on two subjects have nothing to do with each other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_interface, ip_network
from typing import Any

from django.core.cache import cache
from django.utils.crypto import salted_hmac

from .client_addresses import client_address

# What a provider gives a household or a rented server, which has as many addresses as it likes within.
_IPV6_PREFIX = 56
_DAY_SECONDS = 86_400


def network_of(request: Any) -> str | None:
    """The network of a request's client: an IPv4 address or the first 56 bits of an IPv6 one; None where unknown."""
    try:
        # An address, or already a network.
        address = ip_interface(client_address(request)).ip
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((int(address), _IPV6_PREFIX), strict=False))
    return str(address)


def digest(subject: str, network: str) -> bytes:
    """32 bytes that are the same for one client and subject, and say nothing to those without the secret key."""
    return salted_hmac("shop_similarity.clients", f"{subject}:{network}", algorithm="sha256").digest()


def votes_today(subject: str, network: str) -> int | None:
    """Count a client's vote; how many that makes on this day (UTC), None where the cache keeps nothing or is away.

    It is counted in Django's cache alone, under a digest of the day.
    """
    key = f"shop_similarity:{subject}:{digest(f'{subject} {datetime.now(UTC).date()}', network).hex()[:32]}"
    try:
        cache.add(key, 0, _DAY_SECONDS)
        return cache.incr(key)
    # Backends raise whatever their clients raise; none of it may cost a shopper's answer.
    except Exception:
        return None
