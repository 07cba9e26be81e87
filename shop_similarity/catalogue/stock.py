"""Which products can be had, as the ``IN_STOCK`` setting says it."""

from __future__ import annotations

from typing import Any

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


def sold_out(products: models.QuerySet, **where: Any) -> models.QuerySet:
    """Those of the products that can't be had; none of them without the setting.

    Args:
        products: as for :func:`in_stock`.
        where: a condition on products that all of them meet, such as ``pk__gt=3``, said once more.
    """
    stock = setting_value("in_stock")
    return products.none() if stock is None else stock.select_untrue(products, **where)


def is_sold_out(product: models.Model) -> bool:
    """Whether a product of the shop can't be had now; one statement, none without the setting."""
    if setting_value("in_stock") is None or product.pk is None:
        return False
    return not in_stock(get_catalogue().all_products().filter(pk=product.pk)).exists()
