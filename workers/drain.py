"""Draining the outbox: version by version, the most urgent first, until nothing is due."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from shop_similarity import database, meters
from shop_similarity.embedding import outbox
from shop_similarity.models import ModelVersion
from shop_similarity.workers.embedder import complain, get_embedder, keep_only
from shop_similarity.workers.jobs import stopping
from shop_similarity.workers.line import DrainReport, Line, give_back_kept
from shop_similarity.workers.rollout import look_after_versions

logger = logging.getLogger(__name__)

# How the drains of this process have wished activations and indexes looked after, which may take an hour.
_look_after: Callable[[], object] = look_after_versions

_running = threading.Lock()
_again = threading.Event()


def leave_versions_to(look_after: Callable[[], object]) -> None:
    """Have somebody beside the drains of this process look after versions; ``look_after`` returns at once."""
    global _look_after
    _look_after = look_after


def drain_unless_running() -> DrainReport | None:
    """Drain the outbox; where this process is at it already, have that drain look once more instead."""
    _again.set()
    report = None
    while _again.is_set() and _running.acquire(blocking=False):
        try:
            _again.clear()
            report = drain(look_after=_look_after)
        finally:
            _running.release()
    return report


@database.on_primary()
@database.stored_language()
def drain(
    versions: Sequence[int] | None = None,
    *,
    progress: Callable[[DrainReport], None] | None = None,
    stop: threading.Event = stopping,
    look_after: Callable[[], object] = look_after_versions,
) -> DrainReport:
    """Embed what waits in the outbox until nothing is due or ``stop`` is set.

    Several processes may drain at once, on one machine or on many: each claims its own photos.

    Args:
        versions: keys of the model versions to work for; all live ones by default, in the order of
            :func:`shop_similarity.embedding.outbox.versions_with_work`.
        progress: called after every batch.
        stop: ends the drain after the batch it is at.
        look_after: called before each line and at the end, for activations that wait for nothing but photos and for
            indexes.
    """
    report = DrainReport()
    started = time.monotonic()
    unusable: set[int] = set()
    busy: set[int] = set()

    def first_with_work() -> int | None:
        waiting = outbox.versions_with_work()
        passed_over = unusable | busy
        return next((pk for pk in waiting if (versions is None or pk in versions) and pk not in passed_over), None)

    give_back_kept()
    while not stop.is_set():
        # Also before the first photo, for a version may have been waiting for nothing but this.
        look_after()
        first = first_with_work()
        if first is None:
            break
        version = ModelVersion.objects.filter(pk=first).first()
        if version is None:
            # Deleted this moment.
            continue
        outbox.give_up_lost(first)
        try:
            # Before anything is claimed: a version that can't be loaded must not use up the tries of its photos.
            get_embedder(version)
        except Exception as error:
            unusable.add(first)
            report.unusable[version.name] = str(error)
            complain(version, error)
            continue
        if not Line(version, report, progress, stop, first_with_work).run():
            # Others are claiming what is left of it this moment; where one is stopped in the middle of that, this may
            # last. A later look finds what they do not settle.
            busy.add(first)
    report.seconds = time.monotonic() - started
    if not stop.is_set():
        look_after()
    keep_only(ModelVersion.objects.live().values_list("pk", flat=True))
    if report.settled:
        logger.info(
            "Embedded %d photos in %.1f s (%d copied, %d unchanged, %d gone, %d failed, %d to try again).",
            report.embedded,
            report.seconds,
            report.copied,
            report.unchanged,
            report.gone,
            report.failed,
            report.retried,
            extra={name: getattr(report, name) for name in meters.OUTCOMES},
        )
    return report
