"""What a worker process starts and ends, in the plugin's own Celery app as in the shop's.

Only in workers that take messages from the plugin's queue: the shop may have others, on machines without TensorFlow.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import Any

from billiard import current_process
from celery import Celery, bootsteps, current_app
from celery.signals import worker_init, worker_process_init, worker_shutdown, worker_shutting_down

from shop_similarity.conf import get_settings
from shop_similarity.embedding import bell
from shop_similarity.embedding.celery_app import NAME
from shop_similarity.training.errors import TrainingError
from shop_similarity.workers import clock, ending, exporter, visual_queries
from shop_similarity.workers.drain import leave_versions_to
from shop_similarity.workers.jobs import stopping
from shop_similarity.workers.runtimes.choice import get_runtime

# Kept in the app's settings, which a pool hands to its processes however it starts them.
_SERVES = "shop_similarity_serves"
# Of this process's worker. What Celery takes for the current one depends on the thread.
_app: Celery | None = None


def _serves(app: Celery) -> bool:
    return bool(app.conf.get(_SERVES))


def _exit_of(app: Celery) -> Callable[[int], object] | None:
    """What may end the process before its threads have come to their end: of the plugin's own app, which has no tasks
    but the plugin's.
    """
    return os._exit if app.main == NAME else None


@worker_init.connect
def _look_at_queues(sender: Any, **kwargs: Any) -> None:
    """Find out whether this worker is one of ours, and refuse to start it where it could embed nothing."""
    global _app
    app, queue = sender.app, get_settings().queue
    _app = app
    app.conf[_SERVES] = app.main == NAME or queue in app.amqp.queues.consume_from
    if not _serves(app):
        return
    try:
        get_runtime().check()
    except TrainingError as error:
        # It would hear the bell in place of a worker that can embed.
        advice = "" if app.main == NAME else f' Or leave the queue "{queue}" to other workers.'
        raise SystemExit(f"{error}{advice}") from error
    app.steps["worker"].add(_Work)
    ending.prepare_children()
    if (exit_ := _exit_of(app)) is not None:
        atexit.register(ending.leave, exit_)


class _Work(bootsteps.StartStopStep):
    """Starts the plugin's threads when the pool is there, and before Celery looks for its broker: it looks until it has
    found it, and a worker that starts while Redis is away has photos to embed and shoppers to answer.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        """Start what the worker does."""
        exporter.start()
        # A pool of processes forks its workers from this one, which therefore must stay free of TensorFlow.
        if type(parent.pool).__module__.startswith("celery.concurrency.prefork"):
            ending.has_children()
            clock.start(lambda: bell.ring(parent.app))
        else:
            leave_versions_to(clock.look_after)
            clock.start()
            visual_queries.start()


@worker_process_init.connect
def _start_in_first_child(**kwargs: Any) -> None:
    """In a pool of processes, where the parent must stay free of TensorFlow, the child in the first slot answers.

    One is enough, and each more would keep the networks in memory once more. A child that dies leaves its slot to the
    one that is forked for it.
    """
    if not _serves(current_app):
        return
    ending.hear_parent(_exit_of(current_app))
    # The parent's clock looks after them.
    leave_versions_to(lambda: None)
    if getattr(current_process(), "index", None) == 0:
        visual_queries.start()


@worker_shutting_down.connect
def _stop(**kwargs: Any) -> None:
    if _app is not None and _serves(_app):
        ending.begin(_exit_of(_app))
    stopping.set()


@worker_shutdown.connect
def _wait(**kwargs: Any) -> None:
    stopping.set()
    seconds = get_settings().shutdown_seconds or 60
    clock.join(seconds)
    visual_queries.join(seconds)
    ending.tell()
