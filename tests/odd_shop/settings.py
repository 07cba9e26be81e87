"""Settings of an odd shop."""

from tests.support.other_shop_settings import *  # noqa: F403
from tests.support.other_shop_settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.odd_shop.apps.OddShopConfig"]
DATABASES["default"].setdefault("TEST", {})["NAME"] = "test_odd_shop"
SHOP_SIMILARITY = {
    "PRODUCT_MODEL": "odd_shop.Item",
    "IMAGES": "picture",
    "CATEGORY": ("nodes", "parent__nodes"),
    "PRICE": ("stockrecords__price", "children__stockrecords__price"),
}
