"""The plugin's own Celery app: ``celery -A shop_similarity.workers worker``.

The pool is one of threads, since a process that has used TensorFlow must not fork, and one process shall hold one
model.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from shop_similarity.embedding.celery_app import make_app

if "DJANGO_SETTINGS_MODULE" not in os.environ:
    # A clone that is run as it is means its reference shop; a shop may have a package of that name, too.
    reference = Path(__file__).resolve().parents[1] / "catalog" / "__init__.py"
    catalog = find_spec("catalog")
    if catalog is None or catalog.origin is None or Path(catalog.origin) != reference:
        raise SystemExit(
            "DJANGO_SETTINGS_MODULE is not set. Name your shop's settings, for example "
            "`DJANGO_SETTINGS_MODULE=shop.settings celery -A shop_similarity.workers worker`."
        )
    os.environ["DJANGO_SETTINGS_MODULE"] = "catalog.settings"

app = make_app(
    include=["shop_similarity.workers.tasks"],
    own={
        "worker_pool": "threads",
        # One thread drains the outbox, one answers what comes in meanwhile.
        "worker_concurrency": 2,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
    },
)
