"""``{% load shop_similarity_oscar %}``: the panels of Oscar's dashboard."""

from __future__ import annotations

from typing import Any

from django import template

from .. import dashboard

register = template.Library()


@register.inclusion_tag("shop_similarity/oscar/dashboard_panel.html", takes_context=True)
def similarity_panel(context: template.Context) -> dict[str, Any]:
    """How far the shop's photos are; empty for who may not see the dashboard. Needs ``request`` in the context."""
    return {"status": dashboard.photo_status(context["request"])}


@register.inclusion_tag("shop_similarity/oscar/product_photos.html", takes_context=True)
def similarity_photos(context: template.Context, product: Any) -> dict[str, Any]:
    """How far the photos of one product are, as far as the user may edit the products that they hang on."""
    return {"product": product, "photos": dashboard.product_photos(context["request"], product)}
