"""Settings of the reference shop.

The environment decides where it runs:

DATABASE_URL                    a Postgres with pgvector; without it, the shop's own (see catalog/services)
CELERY_BROKER_URL or REDIS_URL  a Redis or Valkey; without it, the shop's own
SHOP_DATA                       folder of all that the shop makes; default: .data in the project
SHOP_DEBUG                      1 shows Django's debug pages; default: 0
SHOP_SECRET_KEY                 default: generated into SHOP_DATA
SHOP_ALLOWED_HOSTS              host names, separated by commas; default: this machine alone
SHOP_TRUSTED_ORIGINS            origins for forms behind a proxy, separated by commas
SHOP_MEDIA_URL                  default: /media/
SHOP_HTTPS                      1: pages by HTTPS alone, for a year (HSTS), and cookies never without it; default: 0
SHOP_HSTS_DOMAIN                1: HSTS also for all subdomains, and for the lists in browsers (preload); default: 0
SHOP_METRICS                    1 counts for Prometheus, at /similarity/metrics/ (the extra `metrics`); default: 0
SHOP_MONITORING_TOKEN           what may read that and the details of /similarity/health/; default: staff alone
SHOP_WORKER_METRICS_PORT        where a worker tells what it counts, on SHOP_WORKER_METRICS_HOST; default: nowhere
SHOP_JSON_LOGS                  1 logs JSON, an object a line; default: 0
SHOP_HTTPS_HEADER               header by which a proxy says "https", such as X-Forwarded-Proto; only behind a proxy
                                that removes it from what clients send
"""

import os

import dj_database_url

from catalog.services import shop
from catalog.services.secret_key import secret_key


def _is_on(name: str) -> bool:
    return os.environ.get(name, "0").lower() in ("1", "true", "yes", "on")


def _words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


BASE_DIR = shop.PROJECT
DATA_DIR = shop.data_folder()

DEBUG = _is_on("SHOP_DEBUG")
SECRET_KEY = os.environ.get("SHOP_SECRET_KEY") or secret_key(DATA_DIR / "secret_key")
ALLOWED_HOSTS = _words("SHOP_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = _words("SHOP_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "imagekit",
    "catalog",  # before the plugin: its product card takes the place of the plugin's
    "shop_similarity",
    "shop_similarity.training",
    "shop_similarity.workers",
]

MIDDLEWARE = [
    "shop_similarity.middleware.UsableTextMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "catalog.content_security.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "shop_similarity.middleware.ExperimentMiddleware",
]

ROOT_URLCONF = "catalog.urls"
WSGI_APPLICATION = "catalog.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "catalog.context_processors.shop",
            ],
        },
    }
]

DATABASES = {"default": dj_database_url.parse(shop.database_url(), conn_max_age=60, conn_health_checks=True)}
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)

CELERY_BROKER_URL = shop.broker_url()
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # A broker that does not answer must not hold anybody up: the outbox in Postgres keeps the work.
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    "socket_keepalive": True,
}

MEDIA_URL = os.environ.get("SHOP_MEDIA_URL") or "/media/"
MEDIA_ROOT = DATA_DIR / "media"
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # Model weights: below no URL, because they are nobody's to download.
    "shop_similarity": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": DATA_DIR / "weights",
            "base_url": None,
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

SHOP_SIMILARITY = {
    "PRODUCT_MODEL": "catalog.Product",
    "IMAGES": "photos.file",
    "CATEGORY": "category",
    "PRODUCTS": "catalog.products.visible_products",
    "PRICE": "price",
    "IN_STOCK": "stock",
    "FALLBACK": "catalog.products.fallback_products",
    "THUMBNAILS": "catalog.thumbnails.square_copies",
    "WEIGHTS_STORAGE": "shop_similarity",
    "METRICS": _is_on("SHOP_METRICS"),
    "MONITORING_TOKEN": os.environ.get("SHOP_MONITORING_TOKEN") or None,
    "WORKER_METRICS_PORT": int(os.environ.get("SHOP_WORKER_METRICS_PORT") or 0),
    "WORKER_METRICS_HOST": os.environ.get("SHOP_WORKER_METRICS_HOST") or "127.0.0.1",
}

REST_FRAMEWORK = {
    # The browsable pages need inline scripts, which the shop's Content-Security-Policy forbids.
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("fr", "Français")]  # the browser's wish chooses
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

SESSION_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _is_on("SHOP_HTTPS")
SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60 if SECURE_SSL_REDIRECT else 0
# Both bind all other hosts of the domain, and browsers forget the second for months after it is withdrawn.
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _is_on("SHOP_HSTS_DOMAIN")
if _https_header := os.environ.get("SHOP_HTTPS_HEADER"):
    SECURE_PROXY_SSL_HEADER = (f"HTTP_{_https_header.upper().replace('-', '_')}", "https")

DEFAULT_EXCEPTION_REPORTER_FILTER = "catalog.error_reports.ErrorReportFilter"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "json": {"()": "shop_similarity.monitoring.logs.JsonFormatter"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "json" if _is_on("SHOP_JSON_LOGS") else "plain"}
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
}
