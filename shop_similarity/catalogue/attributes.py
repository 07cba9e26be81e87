"""Attributes of products beside their pictures, such as brand and material, as ``ATTRIBUTES`` names them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.constants import LOOKUP_SEP

from ..conf import get_settings
from .field_paths import ProductValue, described_value
from .querysets import is_plain
from .shop import get_catalogue

# Of a basket's products, so many values count.
MOST_VALUES = 100


def attribute_names() -> list[str]:
    """The names of the shop's attributes, in the order of the setting."""
    return list(get_settings().attributes or {})


def attribute_value(name: str) -> ProductValue | None:
    """Where products hold the attribute; None where the setting does not name it.

    Raises:
        SettingsError: the product has no such path, or the callable is none or gives no expression.
    """
    setting = (get_settings().attributes or {}).get(name)
    return None if setting is None else described_value("attributes", setting)


def own_values(name: str, products: Sequence[models.Model]) -> list[Any]:
    """The values of an attribute that products have, or the ones that they are shown by; at most 100."""
    value, catalogue = attribute_value(name), get_catalogue()
    keys = {key for product in products for key in (product.pk, catalogue.shown_key(product)) if key is not None}
    if value is None or not keys:
        return []
    values = value.values(catalogue.all_products().filter(pk__in=keys)).distinct()[:MOST_VALUES]
    # Of two products without a brand nobody says that they are of one.
    return [own for own in values if own != ""]


def products_sharing(name: str, values: Collection[Any], products: models.QuerySet) -> models.QuerySet:
    """Those of the products that have one of the values."""
    value = attribute_value(name)
    return products.none() if value is None or not values else value.select(products, **{"in": list(values)})


def products_differing(name: str, values: Collection[Any], products: models.QuerySet) -> models.QuerySet:
    """Those of the products that have none of the values; who has no value at all is among them."""
    value = attribute_value(name)
    if value is None or not values:
        return products
    if value.path is not None and not value.many and is_plain(products):
        return products.exclude(**{f"{value.path}{LOOKUP_SEP}in": list(values)})
    sharing = value.select(get_catalogue().all_products().order_by(), **{"in": list(values)})
    # Each product is looked up by its key: NOT IN would hold all that share the value.
    return products.filter(~Exists(sharing.filter(Q(pk=OuterRef("pk")))))
