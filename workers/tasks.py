"""Celery tasks: each only starts what the outbox already asks for, so losing or repeating one changes nothing."""

from __future__ import annotations

from celery import shared_task

from shop_similarity.embedding.bell import DRAIN_TASK
from shop_similarity.embedding.sweep import sweep
from shop_similarity.workers.drain import drain_unless_running


@shared_task(name=DRAIN_TASK)
def drain_outbox() -> None:
    """Embed everything that waits in the outbox."""
    drain_unless_running()


@shared_task(name="shop_similarity.sweep")
def sweep_catalogue(files: bool = True) -> None:
    """Find what signals could not see; see :mod:`shop_similarity.embedding.sweep`."""
    sweep(files=files)
