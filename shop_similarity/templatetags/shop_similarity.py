"""``{% load shop_similarity %}``: the similar-products widget."""

from __future__ import annotations

from django import template
from django.db import models
from django.template.loader import select_template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..serving import version_for
from ..widget import widget_cards

register = template.Library()


@register.simple_tag
def similar_products_styles() -> SafeString:
    """The ``<link>`` to the widget's style sheet, for the page's ``<head>``."""
    return format_html('<link rel="stylesheet" href="{}">', static("shop_similarity/widget.css"))


@register.simple_tag(takes_context=True)
def similar_products(
    context: template.Context,
    product: models.Model,
    limit: int = 8,
    among: models.QuerySet | None = None,
    heading: str | None = None,
    template_name: str = "shop_similarity/similar_products.html",
) -> str:
    """Render products that look like ``product``; nothing while there are none to show.

    Args:
        product: an instance of the product model.
        limit: the most products shown.
        among: queryset of the products that may be shown; what the ``PRODUCTS`` setting says by default.
        heading: text above the row.
        template_name: template of the whole widget; it includes ``shop_similarity/product_card.html`` for each product.
    """
    request = context.get("request")
    cards = widget_cards(product, int(limit), among, version=version_for(request))
    if not cards:
        return ""
    values = {
        **context.flatten(),
        "similar_to": product,
        "cards": cards,
        "heading": heading,
        "is_fallback": cards[0].similarity is None,
    }
    return select_template([template_name]).render(values, request=request)
