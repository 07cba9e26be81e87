"""Settings of the shop under fire: the reference shop's, with short times."""

import os

from catalog.settings import *  # noqa: F403
from catalog.settings import ALLOWED_HOSTS, DATA_DIR, LOGGING, SHOP_SIMILARITY, STORAGES
from tests.chaos.storages import IN_WORKER, fill_disk_of

ALLOWED_HOSTS = [*ALLOWED_HOSTS, "testserver"]
STORAGES = STORAGES | {
    "default": {"BACKEND": "tests.chaos.storages.ShopStorage"},
    "shop_similarity": {
        "BACKEND": "tests.chaos.storages.WeightsStorage",
        "OPTIONS": {"location": DATA_DIR / "weights", "base_url": None},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WEIGHTS_CACHE = DATA_DIR / "weights-cache"
SHOP_SIMILARITY = SHOP_SIMILARITY | {
    "BATCH_SIZE": 4,
    "POLL_SECONDS": 0.5,
    # A worker that is stopped for longer is taken for dead.
    "LEASE_SECONDS": 3,
    "SWEEP_SECONDS": 2,
    # A sweep of the files would mend what a race between two workers spoils before anybody sees it.
    "SWEEP_FILES_SECONDS": 0,
    "WEIGHTS_CACHE": str(WEIGHTS_CACHE),
    "WIDGET_CACHE_SECONDS": 0,
    "VISUAL_SEARCH_WAIT_SECONDS": 2.0,
    "SEARCH_RATE": None,
    "UPLOAD_RATE": None,
    "EVENT_RATE": None,
}

if IN_WORKER in os.environ:
    fill_disk_of(WEIGHTS_CACHE)
else:
    # What a page says while Postgres is away is no line of the report.
    handler = LOGGING["handlers"]["console"] | {"class": "logging.FileHandler", "filename": DATA_DIR / "shop.log"}
    LOGGING = LOGGING | {"handlers": {"console": handler}}
