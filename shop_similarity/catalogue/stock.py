"""Which products can be had, as the ``IN_STOCK`` setting says it."""

from __future__ import annotations

from django.db import models

from .field_paths import setting_value
from .shop import get_catalogue


def in_stock(products: models.QuerySet) -> models.QuerySet:
    """Those of the products that can be had; all of them without the setting.

    Args:
        products: a queryset that can be filtered further, see :mod:`.querysets`.
    """
    stock = setting_value("in_stock")
    return products if stock is None else stock.select_true(products)


def is_sold_out(product: models.Model) -> bool:
    """Whether a product of the shop can't be had now; one statement, none without the setting."""
    if setting_value("in_stock") is None or product.pk is None:
        return False
    return not in_stock(get_catalogue().all_products().filter(pk=product.pk)).exists()
