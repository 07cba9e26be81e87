"""Celery tasks: each only starts what the outbox already asks for, so losing or repeating one changes nothing.

Celery finds this module in every app of ``INSTALLED_APPS``, and with it what else a worker of the plugin does.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task

from shop_similarity.embedding.bell import DRAIN_TASK
from shop_similarity.embedding.sweep import sweep
from shop_similarity.workers import signals  # noqa: F401  (connect themselves)
from shop_similarity.workers.drain import drain_unless_running
from shop_similarity.workers.jobs import stopping

# The shop's limits are meant for its own tasks; a drain takes as long as there are photos.
_NO_LIMIT: dict[str, Any] = {"time_limit": 1e9, "soft_time_limit": 1e9}


@shared_task(name=DRAIN_TASK, **_NO_LIMIT)
def drain_outbox() -> None:
    """Embed everything that waits in the outbox."""
    drain_unless_running()


@shared_task(name="shop_similarity.sweep", **_NO_LIMIT)
def sweep_catalogue(files: bool = True) -> None:
    """Find what signals could not see; see :mod:`shop_similarity.embedding.sweep`."""
    sweep(files=files, stop=stopping)
