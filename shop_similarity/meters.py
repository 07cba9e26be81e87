"""What processes count while they work, for Prometheus: nothing unless ``METRICS`` is on and the extra is installed.

The meters are in ``prometheus_client``'s own registry, so that a shop that exports that anyway has them there too.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .conf import get_settings

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

PREFIX = "shop_similarity_"
# Of the statement that finds candidates, in seconds: exact among few photos takes one millisecond, a scan a hundred.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_PATHS = ("exact", "codes", "index", "engine")
# Fields of shop_similarity.workers.line.DrainReport.
OUTCOMES = ("embedded", "copied", "unchanged", "gone", "failed", "retried")


@dataclass(frozen=True)
class _Meters:
    """Attributes:
    search_seconds: of the statements that find candidates, by path.
    lists: lists asked of the cache, by whether they were there.
    photos: photos that workers settled or put back, by outcome.
    rings: of the bell, by whether the broker took them.
    """

    search_seconds: Histogram
    lists: Counter
    photos: Counter
    rings: Counter


@functools.cache
def is_installed() -> bool:
    """Whether the extra ``metrics`` is there."""
    return find_spec("prometheus_client") is not None


_lock = threading.Lock()
_made: _Meters | None = None


def _make() -> _Meters | None:
    """The meters, made once in each process: a registry takes no second ones of a name."""
    global _made
    with _lock:
        if _made is None and is_installed():
            _made = _new()
        return _made


def _new() -> _Meters:
    from prometheus_client import Counter, Histogram

    meters = _Meters(
        Histogram(
            f"{PREFIX}search_seconds",
            "Time of the statements that find candidates, by how they find them.",
            ["path"],
            buckets=_BUCKETS,
        ),
        Counter(f"{PREFIX}lists", "Lists of look-alikes asked of the cache.", ["found"]),
        Counter(f"{PREFIX}photos", "Photos that workers are done with, or put back to try again.", ["outcome"]),
        Counter(f"{PREFIX}rings", "Rings that tell workers of new photos, by whether the broker took them.", ["sent"]),
    )
    # What has not happened yet is 0, or no rate could be told of the first time.
    for path in _PATHS:
        meters.search_seconds.labels(path)
    for answer in ("yes", "no"):
        meters.lists.labels(answer)
        meters.rings.labels(answer)
    for outcome in OUTCOMES:
        meters.photos.labels(outcome)
    return meters


def _meters() -> _Meters | None:
    return (_made or _make()) if get_settings().metrics else None


def begin() -> None:
    """Have the meters there before anything is counted, at 0."""
    _meters()


def count_search(path: str, seconds: float) -> None:
    """Count a statement that found candidates.

    Args:
        path: how, ``"exact"``, ``"codes"``, ``"index"`` or ``"engine"``.
        seconds: that it took.
    """
    if (meters := _meters()) is not None:
        meters.search_seconds.labels(path).observe(seconds)


def count_list(is_found: bool) -> None:
    """Count a list that was looked for in the cache."""
    if (meters := _meters()) is not None:
        meters.lists.labels("yes" if is_found else "no").inc()


def count_photos(outcome: str, number: int) -> None:
    """Count photos of a worker.

    Args:
        outcome: one of :data:`OUTCOMES`.
        number: how many.
    """
    if number and (meters := _meters()) is not None:
        meters.photos.labels(outcome).inc(number)


def count_ring(is_sent: bool) -> None:
    """Count a ring of the bell."""
    if (meters := _meters()) is not None:
        meters.rings.labels("yes" if is_sent else "no").inc()
