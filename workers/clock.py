"""What a worker does by the clock: look into the outbox in case a bell was lost, sweep, and roll up events.

It needs neither the broker nor a beat process, so a shop whose Redis is away goes on embedding.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.db import close_old_connections

from shop_similarity import database, rollout
from shop_similarity.conf import get_settings
from shop_similarity.embedding import heartbeat, outbox
from shop_similarity.embedding.sweep import due_sweep, sweep
from shop_similarity.feedback import roll_up
from shop_similarity.rollout import recall
from shop_similarity.rollout.retirement import clear_retired
from shop_similarity.workers.drain import drain_unless_running, stopping
from shop_similarity.workers.identity import free_claims_of_the_dead, worker_name

logger = logging.getLogger(__name__)

# New photos wait no longer than this for the tidying.
_CLEARING_SECONDS = 1.0

_threads: list[threading.Thread] = []


@database.on_primary()
def look_round(embed: Callable[[], object] = drain_unless_running) -> None:
    """Sweep if it is time to, tidy up, and see to it that what waits in the outbox is embedded.

    Args:
        embed: does it. A process that must not hold the model asks its pool.
    """
    heartbeat.beat(worker_name())
    freed = free_claims_of_the_dead()
    if freed:
        logger.info("Freed %d claims of workers that were killed on this machine.", freed)
    kind = due_sweep()
    if kind is not None:
        report = sweep(files=kind == "files")
        if report.enqueued or report.removed:
            logger.info("The sweep queued %d photos and removed %d embeddings.", report.enqueued, report.removed)
    cleared = clear_retired(seconds=_CLEARING_SECONDS, stopped=stopping.is_set)
    if cleared:
        logger.info("Removed %d embeddings of retired versions.", cleared)
    if outbox.has_due() or rollout.is_wanted():
        embed()


def _run(embed: Callable[[], object]) -> None:
    complained = ""
    while not stopping.wait(get_settings().poll_seconds):
        close_old_connections()
        try:
            with database.stored_language():
                look_round(embed)
            # After the photos, so that whatever is wrong with events, photos are embedded.
            if roll_up.is_due():
                roll_up.roll_up(stopped=stopping.is_set)
            if recall.is_due():
                recall.measure_nightly(stopped=stopping.is_set)
            complained = ""
        except Exception as error:
            # The database may be away for a while; the next look finds it again. Say each trouble once.
            if str(error) != complained:
                complained = str(error)
                logger.exception("The worker could not look into the outbox; it goes on trying.")
    database.close_connections()


def start(embed: Callable[[], object] = drain_unless_running) -> None:
    """Start the thread that looks round; ``embed`` sees to it that what waits is embedded."""
    stopping.clear()
    heartbeat.begin()
    thread = threading.Thread(target=_run, args=(embed,), name="shop-similarity-timekeeper", daemon=True)
    _threads.append(thread)
    thread.start()


def join(timeout: float = 60) -> None:
    """Wait until the thread has come to its end, after ``stopping`` was set."""
    while _threads:
        _threads.pop().join(timeout)
