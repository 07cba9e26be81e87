"""The plugin's own Celery app, as the worker runs it and the bell rings by it: one queue, whatever the shop's say.

How the broker is reached, how a message is written and how a worker logs are the shop's ``CELERY_`` settings. Which
messages come, where they go and how long a task may take are not: those settings are meant for the shop's own tasks, of
which this app knows none and would throw each away that it took.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from ..conf import get_settings

NAME = "shop_similarity.workers"

_NAMESPACE = "CELERY"
_NOT_THE_SHOPS: dict[str, Any] = {
    "task_routes": None,
    "task_default_exchange": None,
    "task_default_routing_key": None,
    "task_create_missing_queues": True,
    "worker_direct": False,
    # A drain takes as long as there are photos.
    "task_annotations": None,
    "task_default_rate_limit": None,
    "task_time_limit": None,
    "task_soft_time_limit": None,
    # Of nothing but rings, so that no web process embeds.
    "task_always_eager": False,
    "imports": (),
    "beat_schedule": {},
    "beat_scheduler": "celery.beat:PersistentScheduler",
}


def make_app(name: str = NAME, own: dict[str, Any] | None = None, **options: Any) -> Celery:
    """A Celery app of the plugin; its settings are read when they are first asked for.

    Args:
        name: of the app.
        own: Celery settings of this app, whatever the shop's are.
        options: arguments of :class:`celery.Celery`.
    """
    app = Celery(name, **options)
    app.config_from_object("django.conf:settings", namespace=_NAMESPACE)

    # What Celery calls defaults comes before the settings of the shop.
    @app.add_defaults
    def keep_to_one_queue() -> dict[str, Any]:
        # As the shop's own worker declares the queue, for a broker takes no second declaration that differs.
        queue = app.amqp.Queues(app.conf.task_queues, create_missing=True)[get_settings().queue]
        kept = {**_NOT_THE_SHOPS, "task_queues": [queue], "task_default_queue": queue.name, **(own or {})}
        # Before Celery 5.7, a name with the namespace comes before all without, wherever they are set.
        return kept | {f"{_NAMESPACE}_{setting.upper()}": value for setting, value in kept.items()}

    return app
