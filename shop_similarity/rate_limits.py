"""How often one client may do something: ``SEARCH_RATE``, ``FEED_RATE``, ``UPLOAD_RATE`` and so on.

The pages and the API ask here, so a request counts once, whichever way it came. A client is the user who is logged in,
else the address (:mod:`.client_addresses`). Neither is ever stored: they are hashed with the shop's secret key and the
time, and what is counted under that hash is in Django's cache alone and ends with the rate's period. While the cache is
away, each process counts for itself.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from time import monotonic
from typing import Any

from django.core.cache import BaseCache, caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.utils.crypto import salted_hmac

from .client_addresses import client_address
from .conf import RATE, get_settings

logger = logging.getLogger(__name__)

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
# A period is counted in so many parts that leave it one by one: counted as a whole, it would be allowed twice around
# the moment at which the next begins.
_PARTS = 20
# A cache that did not answer is left alone for so long, lest each request waits for it in vain.
_PAUSE = 5.0

_own_counts = LocMemCache("shop_similarity.rate_limits", {"OPTIONS": {"MAX_ENTRIES": 100_000}})
# 0 while the cache answers.
_asked_again_at = 0.0


def parse_rate(rate: str) -> tuple[int, int]:
    """``"600/min"`` as a number of requests and of seconds; the settings are checked already."""
    match = RATE.fullmatch(rate)
    if match is None:
        raise ValueError(f"{rate!r} is no rate: write for example '600/min'.")
    return int(match[1]), _SECONDS[match[2]]


def seconds_to_wait(request: Any, setting: str, *, by_address: bool = False) -> int:
    """Count a request; 0, or in how many seconds the client may come again. One that is refused does not count.

    Args:
        request: Django's or REST framework's.
        setting: ``"search_rate"``, ``"feed_rate"``, ``"upload_rate"``, ``"event_rate"`` or ``"login_rate"``; each
            counts apart.
        by_address: count the address also where a user is logged in.
    """
    rate = getattr(get_settings(), setting)
    if rate is None:
        return 0
    allowed, seconds = parse_rate(rate)
    now, client = time.time(), _client(request, by_address)
    current = int(now * _PARTS / seconds)
    parts = range(current - _PARTS + 1, current + 1)
    keys = [_key(setting, client, part) for part in parts]
    counts = _counted(keys, seconds)
    if sum(counts.values()) <= allowed:
        return 0
    _uncount(keys[-1])
    oldest = next(part for part, key in zip(parts, keys, strict=True) if counts.get(key))
    return max(1, math.ceil((oldest + _PARTS) * seconds / _PARTS - now))


def take_back(request: Any, setting: str, *, by_address: bool = False) -> None:
    """Have a request that was counted a moment ago not count after all."""
    rate = getattr(get_settings(), setting)
    if rate is not None:
        current = int(time.time() * _PARTS / parse_rate(rate)[1])
        _uncount(_key(setting, _client(request, by_address), current))


def _counted(keys: list[str], seconds: int) -> dict[str, int]:
    """The counts by key, the last of which has become one more."""
    global _asked_again_at
    cache = caches["default"]
    # The choice of a shop that wants no cache, as while it is developed.
    if isinstance(cache, DummyCache):
        return {}
    if monotonic() >= _asked_again_at:
        try:
            counts = _counted_in(cache, keys, seconds)
        # Backends raise whatever their clients raise; none of it may open the door, or cost a page.
        except Exception as error:
            _failed(f"{type(error).__name__}: {error}")
        else:
            if keys[-1] in counts:
                _asked_again_at = 0.0
                return counts
            _failed("It keeps nothing.")
    return _counted_in(_own_counts, keys, seconds)


def _counted_in(cache: BaseCache, keys: list[str], seconds: int) -> dict[str, int]:
    # Counted before it is looked at, and by the cache itself, so that of many requests at once none is overlooked.
    cache.add(keys[-1], 0, seconds)
    with suppress(ValueError):
        cache.incr(keys[-1])
    return cache.get_many(keys)


def _uncount(key: str) -> None:
    try:
        (_own_counts if _asked_again_at else caches["default"]).decr(key)
    except ValueError:
        # Its time is over.
        return
    except Exception as error:
        _failed(f"{type(error).__name__}: {error}")


def _failed(reason: str) -> None:
    global _asked_again_at
    if not _asked_again_at:
        logger.warning(
            "The cache does not answer, so each process counts by itself how often a client asks. Check "
            "CACHES['default']. %s",
            reason,
        )
    _asked_again_at = monotonic() + _PAUSE


def _key(setting: str, client: str, part: int) -> str:
    digest = salted_hmac("shop_similarity.rate_limits", f"{part}:{client}", algorithm="sha256").hexdigest()
    return f"shop_similarity:{setting}:{digest[:32]}"


def _client(request: Any, by_address: bool = False) -> str:
    user = None if by_address else getattr(request, "user", None)
    return f"user {user.pk}" if user is not None and user.is_authenticated else f"address {client_address(request)}"
