"""``{% load shop_similarity_search %}``: search by photo on any page of the shop."""

from __future__ import annotations

from typing import Any

from django import template
from django.db import models
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..catalogue import key_segment
from ..visual_search.forms import form_context
from .shop_similarity import nonce_attribute

register = template.Library()


@register.simple_tag
def visual_search_styles(nonce: str = "") -> SafeString:
    """The ``<link>`` elements of the form and of its results, for the page's ``<head>``.

    Args:
        nonce: that of the page's Content-Security-Policy, where it goes by nonces.
    """
    sheets = [static(f"shop_similarity/{name}.css") for name in ("widget", "visual_search")]
    attribute = nonce_attribute(nonce)
    return format_html_join("\n", '<link rel="stylesheet" href="{}"{}>', ((sheet, attribute) for sheet in sheets))


@register.simple_tag
def visual_search_scripts(nonce: str = "") -> SafeString:
    """The ``<script>`` that adds dropping, pasting, cropping and results in place; the form works without it.

    Args:
        nonce: that of the page's Content-Security-Policy, where it goes by nonces.
    """
    script = static("shop_similarity/visual_search.js")
    return format_html('<script src="{}" defer{}></script>', script, nonce_attribute(nonce))


@register.inclusion_tag("shop_similarity/_visual_search_form.html", takes_context=True)
def visual_search(
    context: template.Context,
    heading: str | None = None,
    heading_level: int = 2,
    element_id: str = "visual-search",
) -> dict[str, Any]:
    """The form to search with a photo; results appear below it, or on a page of their own without JavaScript.

    Args:
        heading: text above the form; none by default.
        heading_level: 1 to 6.
        element_id: prefix of the ids in the form; another one for each form of a page.

    Raises:
        NoReverseMatch: the shop does not include ``shop_similarity.urls``.
    """
    values = form_context(heading=heading, heading_level=int(heading_level), element_id=element_id)
    return {**values, "csrf_token": context.get("csrf_token")}


@register.inclusion_tag("shop_similarity/_in_the_picture.html", takes_context=True)
def search_in_picture(context: template.Context, product: models.Model) -> dict[str, Any]:
    """A button that looks for the objects on a product's first photo, to find other products like one of them.

    Args:
        product: that the page shows.

    Raises:
        NoReverseMatch: the shop does not include ``shop_similarity.urls``.
    """
    action = reverse("shop_similarity:in-the-picture", args=[key_segment(product.pk)])
    return {"action": action, "csrf_token": context.get("csrf_token")}
