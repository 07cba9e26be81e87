import json
import os
from pathlib import Path

import dj_database_url

DATA = Path(os.environ["HOST_DATA"])
SECRET_KEY = "for a test"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "catalog",
    "tests",
    "training",
    "workers",
    "shop_similarity",
    "shop_similarity.training",
    "shop_similarity.workers",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
MEDIA_ROOT = DATA / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "shop_similarity": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": DATA / "weights"},
    },
}
SHOP_SIMILARITY = {
    "PRODUCT_MODEL": "catalog.Product",
    "IMAGES": "photos.file",
    "WIDGET_CACHE_SECONDS": 0,
    # To an untrained network the photos of this shop look much the same.
    "DUPLICATE_SIMILARITY": 2.0,
    **json.loads(os.environ.get("HOST_SIMILARITY", "{}")),
}
CELERY_BROKER_URL = os.environ["REDIS_URL"]
# Other tests speak to the same broker.
CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": "host:"}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
for name, value in json.loads(os.environ.get("HOST_CELERY", "{}")).items():
    globals()[f"CELERY_{name}"] = value
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
