"""Keys of products as they arrive from outside: in addresses, forms, tokens and on the command line."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from .field_paths import ProductValue
from .shop import get_catalogue


class NotAKeyError(ValueError):
    """A value that no product of this shop can have as its key."""


def concrete_key(model: type[models.Model]) -> models.Field:
    """The field that holds the primary key: for a model that inherits another's table, the one of the parent."""
    key = model._meta.pk
    while key.remote_field is not None:
        key = key.target_field
    return key


def product_key(value: Any) -> Any:
    """The key of a product that a text (or a number, a UUID) stands for; whether there is such a product is open.

    Raises:
        NotAKeyError: it can be none, be it of another kind, too large a number or what no database takes as text.
    """
    field = concrete_key(get_catalogue().product_model)
    try:
        key = ProductValue("pk", None, field).parse(value)
        # A number may lie outside of what the column holds, a text may be too long for it.
        field.run_validators(key)
    except (ValueError, ValidationError) as error:
        raise NotAKeyError(f"{str(value)[:80]!r} can't be the key of a product.") from error
    if key in field.empty_values:
        raise NotAKeyError("An empty value can't be the key of a product.")
    return key
