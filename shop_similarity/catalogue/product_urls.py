"""Where the shop shows a product."""

from __future__ import annotations

from django.db import models


def product_url(product: models.Model) -> str:
    """Address of a product's page: its ``get_absolute_url()`` or, as Wagtail's pages have it, its ``url``.

    Empty where it has neither.
    """
    if hasattr(product, "get_absolute_url"):
        return product.get_absolute_url()
    url = getattr(product, "url", None)
    return url if isinstance(url, str) else ""
