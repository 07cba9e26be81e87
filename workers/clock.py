"""What a worker does by the clock: look into the outbox in case a bell was lost, sweep, and roll up events.

It needs neither the broker nor a beat process, so a shop whose Redis is away goes on embedding. The clock itself only
asks what is due, by statements that cost the same in a catalogue of any size, and has jobs do it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import close_old_connections

from shop_similarity import database, rollout
from shop_similarity.conf import get_settings
from shop_similarity.embedding import heartbeat, outbox
from shop_similarity.embedding.engines import copies
from shop_similarity.embedding.sweep import go_on, is_due
from shop_similarity.feedback import roll_up
from shop_similarity.rollout import recall, retirement
from shop_similarity.workers import drain
from shop_similarity.workers.identity import free_claims_of_the_dead, worker_name
from shop_similarity.workers.jobs import Job, stopping
from shop_similarity.workers.rollout import look_after_versions

logger = logging.getLogger(__name__)

# Whether a version lacks its index is looked at so often, beside every drain that ends.
_INDEX_SECONDS = 60.0
_next_index_look = 0.0


def _sweep(files: bool) -> None:
    report = go_on(files=files, stop=stopping)
    if report.enqueued or report.removed:
        logger.info("The sweep queued %d photos and removed %d embeddings.", report.enqueued, report.removed)


def _clear() -> None:
    cleared = retirement.clear_retired(stopped=stopping.is_set, rest=stopping.wait)
    if cleared:
        logger.info("Removed %d embeddings of retired versions.", cleared)


def _are_versions_due() -> bool:
    global _next_index_look
    if rollout.is_wanted():
        return True
    if time.monotonic() < _next_index_look:
        return False
    _next_index_look = time.monotonic() + _INDEX_SECONDS
    return True


versions = Job("versions", look_after_versions)
engine = Job("engine", lambda: copies.feed(stopped=stopping.is_set))
drains = Job("drain", drain.drain_unless_running)

# Each with the question whether it is due. Photos come first where all of it is done in one thread.
_JOBS: list[tuple[Job, Callable[[], bool]]] = [
    (Job("sweep", lambda: _sweep(False)), lambda: is_due(files=False)),
    (Job("sweep-files", lambda: _sweep(True)), lambda: is_due(files=True)),
    (versions, _are_versions_due),
    (engine, copies.is_due),
    (Job("retirement", _clear), retirement.is_due),
    (Job("roll-up", lambda: roll_up.roll_up(stopped=stopping.is_set)), roll_up.is_due),
    (Job("recall", lambda: recall.measure_nightly(stopped=stopping.is_set)), recall.is_due),
]


@database.on_primary()
def look_round(embed: Callable[[], object] = drain.drain_unless_running, do: Callable[[Job], object] = Job.do) -> None:
    """Leave a sign of life, and see to it that all is done that is due.

    Args:
        embed: has what waits in the outbox embedded. A process that must not hold the model asks its pool.
        do: what is done with a job that is due: :meth:`Job.begin` in a worker; by default it is done here and now.
    """
    heartbeat.beat(worker_name())
    freed = free_claims_of_the_dead()
    if freed:
        logger.info("Freed %d claims of workers that were killed on this machine.", freed)
    for job, is_job_due in _JOBS:
        if is_job_due():
            do(job)
    if outbox.has_due():
        embed()


def _run(embed: Callable[[], object]) -> None:
    complained = ""
    while not stopping.wait(get_settings().poll_seconds):
        close_old_connections()
        try:
            with database.stored_language():
                look_round(embed, Job.begin)
            complained = ""
        except Exception as error:
            # The database may be away for a while; the next look finds it again. Say each trouble once.
            if str(error) != complained:
                complained = str(error)
                logger.exception("The worker could not look into the outbox; it goes on trying.")
    database.close_connections()


_threads: list[threading.Thread] = []


def look_after() -> None:
    """Have versions looked after, and the engine beside Postgres told of what has just been embedded."""
    versions.begin()
    if copies.is_due():
        engine.begin()


def start(embed: Callable[[], object] = drains.begin) -> None:
    """Start the thread that looks round; ``embed`` sees to it that what waits is embedded, and returns at once."""
    stopping.clear()
    heartbeat.begin()
    thread = threading.Thread(target=_run, args=(embed,), name="shop-similarity-timekeeper", daemon=True)
    _threads.append(thread)
    thread.start()


def join(timeout: float = 60) -> None:
    """Wait until the thread and all jobs have come to their end, after ``stopping`` was set."""
    ends = time.monotonic() + timeout
    while _threads:
        _threads.pop().join(timeout)
    for job in (drains, *(job for job, _is_due in _JOBS)):
        job.join(max(ends - time.monotonic(), 0))
