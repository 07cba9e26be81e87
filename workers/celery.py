"""The Celery app of the workers: ``celery -A workers worker``.

Its settings are Django's ``CELERY_`` ones. The pool is one of threads, since a process that has used TensorFlow must
not fork, and one process shall hold one model.
"""

import os

from celery import Celery

# The reference shop's, for a clone that is run as it is; any other shop names its own.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalog.settings")

app = Celery("workers", include=["workers.tasks", "workers.timekeeper"])
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.add_defaults
def _defaults() -> dict:
    from shop_similarity.conf import get_settings

    return {
        "task_default_queue": get_settings().queue,
        "worker_pool": "threads",
        # One thread drains the outbox, one answers what comes in meanwhile.
        "worker_concurrency": 2,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
    }
