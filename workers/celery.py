"""The Celery app of the workers: ``celery -A shop_similarity.workers worker``.

Its settings are Django's ``CELERY_`` ones. The pool is one of threads, since a process that has used TensorFlow must
not fork, and one process shall hold one model.
"""

import importlib.util
import os

from celery import Celery
from celery.signals import celeryd_init

if "DJANGO_SETTINGS_MODULE" not in os.environ:
    # A clone that is run as it is means its reference shop.
    try:
        found = importlib.util.find_spec("catalog.settings")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise SystemExit(
            "DJANGO_SETTINGS_MODULE is not set. Name your shop's settings, for example "
            "`DJANGO_SETTINGS_MODULE=shop.settings celery -A shop_similarity.workers worker`."
        )
    os.environ["DJANGO_SETTINGS_MODULE"] = "catalog.settings"


@celeryd_init.connect
def _refuse_without_tensorflow(**kwargs: object) -> None:
    # After the settings were looked for: where they are missing, the rest may not be there either.
    from shop_similarity.training.extras import ExtraMissing, require

    # It would hear the bell in place of a worker that can embed.
    try:
        require("tensorflow")
    except ExtraMissing as error:
        raise SystemExit(str(error)) from error


app = Celery("shop_similarity.workers", include=["shop_similarity.workers.tasks", "shop_similarity.workers.clock"])
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
