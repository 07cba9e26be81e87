"""Health checks: each a few indexed reads or one question to a storage, within a time limit, answered by a sentence.

The checks of one group share a thread and its connection. A group that hangs is waited for no longer than the limit,
and nobody starts it a second time meanwhile; what it found is kept for a few seconds, so that callers who ask again
and again cost nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import nullcontext
from dataclasses import dataclass

from django.core.files.storage import storages
from django.utils import timezone

from .. import database
from ..catalogue import get_catalogue
from ..conf import get_settings
from ..embedding.magnitudes import estimate
from ..models import Embedding
from ..rollout.recall import remembered
from . import state

logger = logging.getLogger(__name__)

# For all that is asked at once.
SECONDS = 2.0
_KEPT_SECONDS = 3.0
# Whose files are asked for.
_PHOTOS = 3
# An estimate may be off by so much, and workers begin to build the index at half of INDEX_ROWS.
_SURELY = 1.5


class Unhealthy(Exception):
    """A check failed; the text says what is wrong and nothing that strangers may not know."""


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        name: of the check.
        is_healthy: whether all is well.
        sentence: what was found, or what is wrong.
    """

    name: str
    is_healthy: bool
    sentence: str


def _database() -> str:
    version = state.active_version()
    return f"Pages search with {version.name}." if version is not None else "No version is active yet."


def _queue() -> str:
    limit = get_settings().health_queue_seconds
    version = state.active_version()
    waiting = state.queues(version.pk) if version is not None else []
    saved = state.PRIORITIES.index("saved")
    age = max((queue.age(saved) for queue in waiting), default=0.0)
    if limit and age > limit:
        raise Unhealthy(
            f"A saved photo has waited for a worker for {age:.0f} s, longer than HEALTH_QUEUE_SECONDS ({limit})."
        )
    return f"The oldest saved photo has waited for {age:.0f} s." if age else "No saved photo waits."


def _worker() -> str:
    limit = get_settings().health_worker_seconds
    seen_at = state.workers().seen_at
    if not limit:
        return "Not asked for: HEALTH_WORKER_SECONDS is 0."
    if seen_at is None:
        raise Unhealthy("No worker has run in the last two weeks.")
    age = (timezone.now() - seen_at).total_seconds()
    if age > limit:
        raise Unhealthy(f"A worker was last alive {age:.0f} s ago, longer than HEALTH_WORKER_SECONDS ({limit}).")
    return f"A worker was last alive {max(age, 0):.0f} s ago."


def _index() -> str:
    version = state.active_version()
    if version is None:
        return "No version is active yet."
    found = next((index for index in state.indexes() if index.version == version.name), None)
    if found is None or found.state == "ready":
        return f"The index of {version.name} is ready."
    if found.state == "invalid":
        raise Unhealthy(f"The index of {version.name} was cut off while it was built; a worker builds it anew.")
    if found.state == "building":
        return f"The index of {version.name} is being built."
    rows = estimate(Embedding.objects.filter(version=version).values("pk"))
    if rows > _SURELY * get_settings().index_rows:
        raise Unhealthy(f"{version.name} has about {rows} photos and no index: searches scan all codes.")
    return f"{version.name} has too few photos for an index."


def _recall() -> str:
    version = state.active_version()
    measured = remembered([version]).get(version.pk) if version is not None else None
    if measured is None or measured.lowest is None:
        return "Not measured yet."
    if measured.is_low:
        raise Unhealthy(
            f"The search by codes found {measured.lowest:.3f} of what the exact one finds (LEAST_RECALL: "
            f"{get_settings().least_recall})."
        )
    return f"The search by codes found {measured.lowest:.3f} of what the exact one finds."


def _storage() -> str:
    with state.limited(SECONDS):
        version = state.active_version()
        rows = Embedding.objects.filter(version=version).order_by("product_id")
        names = list(rows.values_list("file_name", flat=True)[:_PHOTOS]) if version is not None else []
    storage = get_catalogue().storage
    # That a photo is gone is the sweep's business; that all are is a folder that is not mounted, or another bucket.
    if not any(storage.exists(name) for name in names or ["shop-similarity-health"]) and len(names) == _PHOTOS:
        raise Unhealthy(f"The storage of the photos answers, but has none of {_PHOTOS} photos that it had.")
    return "The storage of the photos answers."


def _weights() -> str:
    with state.limited(SECONDS):
        version = state.active_version()
    if version is None:
        return "No version is active yet."
    if not storages[get_settings().weights_storage].exists(version.weights.name or ""):
        raise Unhealthy(f"The weights of {version.name} are not in the storage: no worker can load them.")
    return f"The weights of {version.name} are there."


# What may hang together shares a thread.
_GROUPS: tuple[dict[str, Callable[[], str]], ...] = (
    {"database": _database, "queue": _queue, "worker": _worker, "index": _index, "recall": _recall},
    {"storage": _storage},
    {"weights": _weights},
)
NAMES = tuple(name for group in _GROUPS for name in group)
# Web processes need no weights, and may not reach their storage.
DEFAULT = tuple(name for name in NAMES if name != "weights")


def check(name: str) -> Result:
    """Ask one check, here and now, within no time limit but that of its statements.

    Raises:
        KeyError: there is no check of this name.
    """
    function = {name: function for group in _GROUPS for name, function in group.items()}[name]
    # No transaction stays open while a storage is asked.
    limits = state.limited(SECONDS) if name in _GROUPS[0] else nullcontext()
    try:
        with limits:
            return Result(name, True, function())
    except Unhealthy as error:
        return Result(name, False, str(error))
    except Exception as error:
        # What a driver or a client says names hosts, users and paths.
        logger.warning("The health check %r failed. %s: %s", name, type(error).__name__, " ".join(str(error).split()))
        who = "database" if database.is_away(error) else name
        return Result(name, False, f"The {who} does not answer ({type(error).__name__}).")


_lock = threading.Lock()
_runs: dict[int, tuple[float, Future[dict[str, Result]]]] = {}


def examine(names: Collection[str] = DEFAULT, seconds: float = SECONDS) -> list[Result]:
    """Ask checks, all of them within the limit.

    Args:
        names: of the checks, see :data:`NAMES`.
        seconds: limit of all together.

    Returns:
        A result for each, in the order of :data:`NAMES`.

    Raises:
        KeyError: there is no check of a name.
    """
    if unknown := set(names).difference(NAMES):
        raise KeyError(*unknown)
    deadline = time.monotonic() + seconds
    wanted = [number for number, group in enumerate(_GROUPS) if not group.keys().isdisjoint(names)]
    runs = [_run(number) for number in wanted]
    found: dict[str, Result] = {}
    for number, run in zip(wanted, runs, strict=True):
        try:
            found |= run.result(max(deadline - time.monotonic(), 0.0))
        except NotYet:
            found |= {name: Result(name, False, f"No answer within {seconds:g} s.") for name in _GROUPS[number]}
    return [found[name] for name in NAMES if name in names]


def forget() -> None:
    """Ask anew at the next examination."""
    with _lock:
        _runs.clear()


def _run(number: int) -> Future[dict[str, Result]]:
    """The run of a group that goes on or ended just now, or a new one."""
    with _lock:
        began, run = _runs.get(number, (0.0, None))
        if run is not None and (not run.done() or time.monotonic() - began < _KEPT_SECONDS):
            return run
        run = Future()
        _runs[number] = time.monotonic(), run
    threading.Thread(target=_ask, args=(number, run), name=f"shop-similarity-health-{number}", daemon=True).start()
    return run


def _forget_threads() -> None:
    """In a process that was forked off, where the threads that were at it are not."""
    global _lock
    _lock = threading.Lock()
    _runs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _ask(number: int, run: Future[dict[str, Result]]) -> None:
    try:
        run.set_result({name: check(name) for name in _GROUPS[number]})
    except BaseException as error:
        run.set_exception(error)
    finally:
        database.close_connections()
