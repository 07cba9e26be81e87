"""How often one client may do something: counted in the cache, under a keyed hash that changes with every period."""

from __future__ import annotations

import time

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from ..conf import RATE

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_rate(rate: str) -> tuple[int, int]:
    """``"600/min"`` as a number of requests and of seconds; the settings are checked already."""
    match = RATE.fullmatch(rate)
    if match is None:
        raise ValueError(f"{rate!r} is no rate: write for example '600/min'.")
    return int(match[1]), _SECONDS[match[2]]


def seconds_to_wait(request: HttpRequest, rate: str | None, scope: str = "events") -> int:
    """Count this request; 0, or in how many seconds the client may come again. What is of another scope counts apart.

    An address is never stored: it is hashed with the shop's secret key and the number of the period, and the count
    under that hash ends with the period. Behind proxies, clients are told apart as the REST framework does it
    (``NUM_PROXIES``).
    """
    if rate is None:
        return 0
    allowed, seconds = parse_rate(rate)
    period, passed = divmod(int(time.time()), seconds)
    digest = salted_hmac("shop_similarity.rates", f"{period}:{_address(request)}", algorithm="sha256").hexdigest()
    key = f"shop_similarity:{scope}:{digest[:32]}"
    cache.add(key, 0, seconds)
    try:
        count = cache.incr(key)
    except ValueError:
        # It ended between the two calls, or the cache keeps nothing: then there is nothing to limit by.
        count = 1
    return 0 if count <= allowed else seconds - passed


def _address(request: HttpRequest) -> str:
    remote = request.META.get("REMOTE_ADDR", "")
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR")
    proxies = getattr(settings, "REST_FRAMEWORK", {}).get("NUM_PROXIES")
    if forwarded is None or proxies == 0:
        return remote
    if proxies is None:
        return "".join(forwarded.split())
    addresses = forwarded.split(",")
    return addresses[-min(proxies, len(addresses))].strip()
