"""Keys of products as they arrive from outside: in addresses, forms, tokens and on the command line."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from .field_paths import ProductValue
from .shop import get_catalogue

# What servers, proxies and browsers hand on as it is. A path of dots alone, a slash and a percent sign are not.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.:@+-]*\Z")
_ESCAPE = "~"


class NotAKeyError(ValueError):
    """A value that no product of this shop can have as its key."""


def concrete_key(model: type[models.Model]) -> models.Field:
    """The field that holds the primary key: for a model that inherits another's table, the one of the parent."""
    key: Any = model._meta.pk
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


def key_segment(key: Any) -> str:
    """A key as one segment of an address, and as a piece of an HTML id: itself where nobody changes it on its way.

    Any other text is a tilde and the base64url of its UTF-8, for a slash, dots, blanks or a percent sign do not get
    through all servers, proxies and browsers, however they are quoted.
    """
    text = str(key)
    return text if _PLAIN.match(text) else _ESCAPE + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def segment_key(segment: str) -> str:
    """The text of the key that :func:`key_segment` made a segment of; any other text is the key itself."""
    encoded = segment.removeprefix(_ESCAPE)
    if not encoded or encoded == segment:
        return segment
    try:
        text = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars="-_", validate=True).decode()
    except (ValueError, binascii.Error):
        return segment
    return text if key_segment(text) == segment else segment
