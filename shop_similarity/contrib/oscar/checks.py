"""System checks of the adapter, beside those of the plugin.

========================== ==============================================================================
shop_similarity_oscar.W001 the adapter stands behind an app whose templates it replaces
shop_similarity_oscar.W002 by Oscar's stock records no product can be had, so no look-alike is ever shown
========================== ==============================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.core import checks
from django.db import DatabaseError

from ... import database
from ...catalogue import get_catalogue
from ...catalogue.stock import in_stock
from ...conf import SETTING, SettingsError, get_settings
from .defaults import oscar_settings


@checks.register("shop_similarity")
def check_order(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    labels = [config.label for config in apps.get_app_configs()]
    own = labels.index("shop_similarity_oscar")
    before = [label for label in ("oscar", "shop_similarity") if label in labels[:own]]
    if not before:
        return []
    return [
        checks.Warning(
            f"'shop_similarity.contrib.oscar' stands behind {' and '.join(map(repr, before))} in INSTALLED_APPS, so "
            "Django takes their templates and not the adapter's.",
            hint="Make it the first of INSTALLED_APPS, or include the adapter's partials as docs/oscar.md says.",
            id="shop_similarity_oscar.W001",
        )
    ]


@checks.register(checks.Tags.database)
def check_stock(databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    alias = database.read_alias()
    try:
        if alias not in (databases or []) or get_settings().in_stock != oscar_settings()["IN_STOCK"]:
            return []
        visible = get_catalogue().visible_products().using(alias).order_by()
        if in_stock(visible).exists() or not visible.exists():
            return []
    except (SettingsError, DatabaseError):
        # Reported elsewhere, or the tables are not there yet.
        return []
    return [
        checks.Warning(
            "No visible product can be bought: none has a stock record with stock. Sold-out products are never "
            "recommended, so no look-alike is shown.",
            hint=f"Give products a stock record in Oscar's dashboard, or set {SETTING}['IN_STOCK'] to None.",
            id="shop_similarity_oscar.W002",
        )
    ]
