"""Settings of a shop with UUIDs for keys."""

from tests.support.other_shop_settings import *  # noqa: F403
from tests.support.other_shop_settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.uuid_shop.apps.UuidShopConfig"]
DATABASES["default"].setdefault("TEST", {})["NAME"] = "test_uuid_shop"
SHOP_SIMILARITY = {"PRODUCT_MODEL": "uuid_shop.Poster", "IMAGES": "picture", "CATEGORY": "motif"}
