"""The tests' settings with an odd shop in them."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "catalog"] + ["tests.odd_shop.apps.OddShopConfig"]
ROOT_URLCONF = "tests.odd_shop.urls"
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
DATABASES["default"].setdefault("TEST", {})["NAME"] = "test_odd_shop"
SHOP_SIMILARITY = {
    "PRODUCT_MODEL": "odd_shop.Item",
    "IMAGES": "picture",
    "CATEGORY": ("nodes", "parent__nodes"),
    "PRICE": ("stockrecords__price", "children__stockrecords__price"),
}
