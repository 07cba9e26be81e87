"""Which products are variants of one: those that share a value of the ``VARIANT_GROUP`` setting."""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.db.models.functions import Coalesce

from .field_paths import setting_value
from .shop import get_catalogue


def variant_group() -> Any:
    """Expression on a product that gives its group; None without the ``VARIANT_GROUP`` setting.

    A product without a value is a group of its own. Where the value is another product's, as that of ``"parent"`` is,
    the product may be the one that others name: then it is called by what they name it by. That is no value of another
    kind, for it is of the same field, and no other product's, for it is unique.
    """
    value = setting_value("variant_group")
    if value is None:
        return None
    if getattr(value.field, "unique", False) and value.field in get_catalogue().product_model._meta.concrete_fields:
        return Coalesce(value.expression, F(value.field.name), output_field=value.field)
    return value.expression
