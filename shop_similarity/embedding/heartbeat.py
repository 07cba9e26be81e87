"""The heartbeat of workers: a row for each of them, written anew every half minute while it lives.

Sweeps and embeddings are no sign of a worker, for commands make them as well; and a worker may have nothing to do.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.db.models import Max
from django.utils import timezone

from .. import database
from ..models import Heartbeat

EVERY_SECONDS = 30
# Of workers that are long gone nothing is kept.
_KEPT_DAYS = 14

_started_at: datetime | None = None
_next = 0.0


def begin() -> None:
    """This process is a worker from now on; others do not beat."""
    global _started_at, _next
    _started_at, _next = timezone.now(), 0.0


def beat(worker: str) -> None:
    """Leave a sign of this worker, unless it has just left one or this process is none."""
    global _next
    if _started_at is None or time.monotonic() < _next:
        return
    _next = time.monotonic() + EVERY_SECONDS
    now = timezone.now()
    rows = Heartbeat.objects.using(database.write_alias())
    rows.bulk_create(
        [Heartbeat(worker=worker[:255], started_at=_started_at, seen_at=now)],
        update_conflicts=True,
        unique_fields=["worker"],
        update_fields=["started_at", "seen_at"],
    )
    rows.filter(seen_at__lt=now - timedelta(days=_KEPT_DAYS)).delete()


def last_seen() -> datetime | None:
    """When any worker was last alive; None where none ever ran, or none for two weeks."""
    return Heartbeat.objects.aggregate(last=Max("seen_at"))["last"]
