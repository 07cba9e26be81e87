"""The tests' settings with another shop in them."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "catalog"] + ["tests.uuid_shop.apps.UuidShopConfig"]
ROOT_URLCONF = "tests.uuid_shop.urls"
_PROCESSORS = [
    "template.context_processors.request",
    "contrib.auth.context_processors.auth",
    "contrib.messages.context_processors.messages",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": [f"django.{name}" for name in _PROCESSORS]},
    }
]
DATABASES["default"].setdefault("TEST", {})["NAME"] = "test_uuid_shop"
SHOP_SIMILARITY = {"PRODUCT_MODEL": "uuid_shop.Poster", "IMAGES": "picture", "CATEGORY": "motif"}
