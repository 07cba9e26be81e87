"""Which products belong together: the variants of one product, by the shop's ``VARIANT_GROUP``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from shop_similarity import database
from shop_similarity.catalogue import get_catalogue, setting_value


def keys_of_the_shop() -> str:
    """What :func:`group_names` makes its names of; another model or another path makes other names."""
    group = setting_value("variant_group")
    label = get_catalogue().product_model._meta.label
    return f"{label} by {group.name}" if group else label


def group_names(products: Collection[Any] | None = None) -> dict[Any, str]:
    """The name of the group of variants of each product that is in one, by the product's key.

    Args:
        products: keys of those that are asked for; all by default.

    All others are groups of their own, called by :func:`product_name`. Where the path ends at a product
    (``"parent"``), its variants and the product itself have the same name.
    """
    group = setting_value("variant_group")
    if group is None:
        return {}
    names: dict[Any, str] = {}
    shown = get_catalogue().all_products().order_by()
    if products is not None:
        shown = shown.filter(pk__in=products)
    for product, value in database.stream(group.annotate(shown).values_list("pk", group.alias)):
        if value is None or value == "":
            continue
        name = product_name(value) if group.is_product else f"{group.name}={value}"
        # A product may be in several; the first by name is as good as another, and the same in every run.
        names[product] = min(name, names.get(product, name))
    return names


def product_name(key: Any) -> str:
    """A product's key as text."""
    return str(key)
