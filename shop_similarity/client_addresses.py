"""From which address a request comes, as far as anybody but the client itself says so."""

from __future__ import annotations

import ipaddress
import logging
from typing import Any

from django.conf import settings

from .conf import get_settings

logger = logging.getLogger(__name__)

# One host is given a whole network of this size, and may take a new address out of it for each request.
_IPV6_NETWORK = 64

_is_warned = False


def trusted_proxies() -> int | None:
    """How many proxies stand before the shop: ``PROXIES``, else REST framework's ``NUM_PROXIES``; None: nobody said."""
    proxies = get_settings().proxies
    if proxies is None:
        proxies = getattr(settings, "REST_FRAMEWORK", {}).get("NUM_PROXIES")
    return proxies


def client_address(request: Any) -> str:
    """The address of a client, by which it is counted: an IPv4 address, or the /64 network of an IPv6 address.

    Each proxy adds the address that it was asked from to the end of ``X-Forwarded-For``, so of so many proxies as the
    shop names, the first one wrote the entry that many places from the end. All before it is what the client claims. A
    list that is shorter, or has no address in that place, passed around the proxies: the connection's own address
    counts then, which nobody can choose.

    Args:
        request: Django's or REST framework's.
    """
    remote = request.META.get("REMOTE_ADDR") or ""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR")
    proxies = trusted_proxies()
    if proxies is None and forwarded is not None:
        _warn()
    entries = (forwarded or "").split(",")
    claimed = _counted(entries[-proxies]) if proxies and len(entries) >= proxies else None
    return claimed or _counted(remote) or remote


def _counted(text: str) -> str | None:
    """The address that a text has, with or without a port; None where it has none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if address.version == 6:
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(address), _IPV6_NETWORK), strict=False))
        address = address.ipv4_mapped
    return str(address)


def _warn() -> None:
    global _is_warned
    if not _is_warned:
        logger.warning(
            "Requests come with X-Forwarded-For, which is not heeded. If a proxy stands before the shop, all clients "
            "count as one: set SHOP_SIMILARITY['PROXIES'] to the number of proxies. If none does, set it to 0."
        )
    _is_warned = True
