"""How long the addresses of photos may be kept, where a storage signs them for a while only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# What django-storages calls it at S3, Google Cloud Storage and Azure.
_SECONDS = ("querystring_expire", "expiration", "expiration_secs")


def address_seconds(storages: Iterable[Any]) -> int | None:
    """For how many seconds all addresses of some storages hold; None where they hold for ever.

    Args:
        storages: of Django, or django-storages.
    """
    seconds = [_seconds(storage) for storage in storages]
    return min((value for value in seconds if value is not None), default=None)


def _seconds(storage: Any) -> int | None:
    if not getattr(storage, "querystring_auth", True) or getattr(storage, "default_acl", "") == "publicRead":
        return None
    for name in _SECONDS:
        value = getattr(storage, name, None)
        if value is not None:
            return int(value.total_seconds() if hasattr(value, "total_seconds") else value)
    return None
