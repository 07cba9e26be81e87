"""Which products belong together: the variants of one product, by the shop's ``VARIANT_GROUP``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from shop_similarity.catalogue import get_catalogue, setting_path


def keys_of_the_shop() -> str:
    """What :func:`group_names` makes its names of; another model or another path makes other names."""
    path = setting_path("variant_group")
    label = get_catalogue().product_model._meta.label
    return f"{label} by {path.path}" if path else label


def group_names(products: Collection[Any] | None = None) -> dict[Any, str]:
    """The name of the group of variants of each product that is in one, by the product's key.

    Args:
        products: keys of those that are asked for; all by default.

    All others are groups of their own, called by :func:`product_name`. Where the path ends at a product
    (``"parent"``), its variants and the product itself have the same name.
    """
    path = setting_path("variant_group")
    if path is None:
        return {}
    # A relation's field is the key that it points to, so a path to the products ends at their own key.
    is_product = path.field.model is get_catalogue().product_model and path.field.primary_key
    names: dict[Any, str] = {}
    rows = get_catalogue().all_products().order_by().values_list("pk", path.path)
    if products is not None:
        rows = rows.filter(pk__in=products)
    for product, value in rows.iterator(chunk_size=2_000):
        if value is None or value == "":
            continue
        name = product_name(value) if is_product else f"{path.path}={value}"
        # A product may be in several; the first by name is as good as another, and the same in every run.
        names[product] = min(name, names.get(product, name))
    return names


def product_name(key: Any) -> str:
    """A product's key as text."""
    return str(key)
