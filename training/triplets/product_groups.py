"""Which products belong together: the variants of one product, by the shop's ``VARIANT_GROUP``."""

from __future__ import annotations

from typing import Any

from shop_similarity import database
from shop_similarity.catalogue import get_catalogue, setting_path
from shop_similarity.catalogue.variant_groups import ends_at_product


def keys_of_the_shop() -> str:
    """What :func:`group_names` makes its names of; another model or another path makes other names."""
    path = setting_path("variant_group")
    label = get_catalogue().product_model._meta.label
    return f"{label} by {path.path}" if path else label


def group_names() -> dict[Any, str]:
    """The name of the group of variants of each product that is in one, by the product's key.

    All others are groups of their own, called by :func:`product_name`. Where the path ends at a product
    (``"parent"``), its variants and the product itself have the same name.
    """
    path = setting_path("variant_group")
    if path is None:
        return {}
    is_product = ends_at_product(path)
    names: dict[Any, str] = {}
    rows = get_catalogue().all_products().order_by().values_list("pk", path.path)
    for product, value in database.stream(rows):
        if value is None or value == "":
            continue
        name = product_name(value) if is_product else f"{path.path}={value}"
        # A product may be in several; the first by name is as good as another, and the same in every run.
        names[product] = min(name, names.get(product, name))
    return names


def product_name(key: Any) -> str:
    """A product's key as text."""
    return str(key)
