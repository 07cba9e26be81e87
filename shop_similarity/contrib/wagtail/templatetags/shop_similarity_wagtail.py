"""``{% load shop_similarity_wagtail %}``: the widget in a shop with several sites or languages."""

from __future__ import annotations

from typing import Any

from django import template
from django.db import models

from ....catalogue import key_segment
from ....storefront.options import WidgetOptions
from ....templatetags.shop_similarity import similar_products
from ..products import product_of, products_beside

register = template.Library()

# How many widgets the page of a request has by now for each product.
_COUNTS = "_shop_similarity_widgets"


@register.simple_tag(takes_context=True)
def wagtail_similar_products(
    context: template.Context,
    product: models.Model | None = None,
    limit: int = WidgetOptions.limit,
    heading: str | None = None,
    **options: Any,
) -> str:
    """Render products of the same site and language that look like a product; nothing where it is none.

    Args:
        product: a product, or any page; by default the page that is shown.
        limit, heading, options: as for ``{% similar_products %}``, ``among`` and ``lazy`` aside.
    """
    product = product_of(context.get("page") if product is None else product)
    if product is None or product.pk is None:
        return ""
    options.setdefault("element_id", _element_id(context, product))
    among = products_beside(product)
    return similar_products(context, product, limit=limit, heading=heading or None, among=among, **options)


def _element_id(context: template.Context, product: models.Model) -> str | None:
    """None for the first widget of a product on a page, whose own id serves; editors may place more."""
    request = context.get("request")
    if request is None:
        return None
    counts = request.__dict__.setdefault(_COUNTS, {})
    counts[product.pk] = counts.get(product.pk, 0) + 1
    return f"similar-products-{key_segment(product.pk)}-{counts[product.pk]}" if counts[product.pk] > 1 else None
