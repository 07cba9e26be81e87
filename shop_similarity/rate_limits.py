"""How often one client may do something: the settings ``SEARCH_RATE``, ``UPLOAD_RATE`` and ``EVENT_RATE``.

The pages and the API ask here, so a request counts once, whichever way it came. A client is who REST framework says it
is: the user who is logged in, else the address, read with the shop's ``NUM_PROXIES``. Neither is ever stored: they are
hashed with the shop's secret key and the time, and what is counted under that hash is in Django's cache alone and ends
with the rate's period.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.utils.crypto import salted_hmac

from .conf import RATE, get_settings

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
# A period is counted in so many parts that leave it one by one: counted as a whole, it would be allowed twice around
# the moment at which the next begins.
_PARTS = 20


def parse_rate(rate: str) -> tuple[int, int]:
    """``"600/min"`` as a number of requests and of seconds; the settings are checked already."""
    match = RATE.fullmatch(rate)
    if match is None:
        raise ValueError(f"{rate!r} is no rate: write for example '600/min'.")
    return int(match[1]), _SECONDS[match[2]]


def seconds_to_wait(request: Any, setting: str) -> int:
    """Count a request; 0, or in how many seconds the client may come again. One that is refused does not count.

    Args:
        request: Django's or REST framework's.
        setting: ``"search_rate"``, ``"upload_rate"`` or ``"event_rate"``; each counts apart.
    """
    rate = getattr(get_settings(), setting)
    if rate is None:
        return 0
    allowed, seconds = parse_rate(rate)
    now, client = time.time(), _client(request)
    current = int(now * _PARTS / seconds)
    parts = range(current - _PARTS + 1, current + 1)
    keys = [_key(setting, client, part) for part in parts]
    # Counted before it is looked at, and by the cache itself, so that of many requests at once none is overlooked.
    cache.add(keys[-1], 0, seconds)
    with suppress(ValueError):
        cache.incr(keys[-1])
    counts = cache.get_many(keys)
    if sum(counts.values()) <= allowed:
        return 0
    with suppress(ValueError):
        cache.decr(keys[-1])
    oldest = next(part for part, key in zip(parts, keys, strict=True) if counts.get(key))
    return max(1, math.ceil((oldest + _PARTS) * seconds / _PARTS - now))


def _key(setting: str, client: str, part: int) -> str:
    digest = salted_hmac("shop_similarity.rate_limits", f"{part}:{client}", algorithm="sha256").hexdigest()
    return f"shop_similarity:{setting}:{digest[:32]}"


def _client(request: Any) -> str:
    user = getattr(request, "user", None)
    return f"user {user.pk}" if user is not None and user.is_authenticated else f"address {_address(request)}"


def _address(request: Any) -> str:
    remote = request.META.get("REMOTE_ADDR", "")
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR")
    proxies = getattr(settings, "REST_FRAMEWORK", {}).get("NUM_PROXIES")
    if forwarded is None or proxies == 0:
        return remote
    if proxies is None:
        return "".join(forwarded.split())
    addresses = forwarded.split(",")
    return addresses[-min(proxies, len(addresses))].strip()
