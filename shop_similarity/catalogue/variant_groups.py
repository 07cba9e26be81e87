"""Which products are variants of one: those that share a value of the ``VARIANT_GROUP`` path."""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.db.models.functions import Coalesce

from .field_paths import FieldPath, setting_path
from .product_keys import concrete_key
from .shop import get_catalogue


def ends_at_product(path: FieldPath) -> bool:
    """Whether a path leads to the key of a product, as ``"parent"`` does."""
    return path.field is concrete_key(get_catalogue().product_model)


def variant_group() -> Any:
    """Expression on a product that gives its group; None without the ``VARIANT_GROUP`` setting.

    A product without a value is a group of its own. Where the path leads to products, others may be in it, as children
    are in that of their parent: then it is called by the product's own value of the field at the end of the path. That
    is no value of another kind, for it is of the same field, and no other product's, for it is unique.
    """
    path = setting_path("variant_group")
    if path is None:
        return None
    if path.field.unique and path.field in get_catalogue().product_model._meta.concrete_fields:
        return Coalesce(F(path.path), F(path.field.name))
    return F(path.path)
