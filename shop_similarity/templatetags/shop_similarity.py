"""``{% load shop_similarity %}``: the similar-products widget."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import models
from django.http import QueryDict
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .. import catalogue, database
from ..catalogue import stock
from ..conf import get_settings
from ..guards import log_database_away
from ..photos.thumbnails import WIDTHS, sources
from ..storefront.context import Address, fragment_url, frame, widget_context
from ..storefront.experiment_arms import version_for
from ..storefront.options import TEMPLATE, Choices, WidgetOptions, choices_of

register = template.Library()

# A picture of the list is as wide as a card; browsers that measure lazy pictures themselves take "auto".
SIZES = "auto, (min-width: 64rem) 15rem, (min-width: 40rem) 30vw, 45vw"


def nonce_attribute(nonce: Any) -> SafeString:
    """The attribute of an element that a Content-Security-Policy lets in by its nonce; nothing without one.

    Args:
        nonce: text, or what Django and django-csp make the text of when it is first written, and which is false before.
    """
    text = "" if nonce is None else str(nonce)
    return format_html(' nonce="{}"', text) if text else SafeString("")


@register.simple_tag
def similar_products_styles(nonce: str = "") -> SafeString:
    """The ``<link>`` to the widget's style sheet, for the page's ``<head>``.

    Args:
        nonce: that of the page's Content-Security-Policy, where it goes by nonces.
    """
    sheet = static("shop_similarity/widget.css")
    return format_html('<link rel="stylesheet" href="{}"{}>', sheet, nonce_attribute(nonce))


@register.simple_tag
def similar_products_scripts(nonce: str = "") -> SafeString:
    """The ``<script>`` that loads lazy widgets, exchanges lists in place and reports views and clicks.

    Pages work without it, save that lazy widgets are then a link and nothing is reported.

    Args:
        nonce: that of the page's Content-Security-Policy, where it goes by nonces.
    """
    script = static("shop_similarity/similarity.js")
    return format_html('<script src="{}" defer{}></script>', script, nonce_attribute(nonce))


@register.simple_tag
def similar_products_element(nonce: str = "") -> SafeString:
    """The ``<script>`` of the custom element ``<similar-products>``, which is told where the shop's API is.

    Args:
        nonce: that of the page's Content-Security-Policy, where it goes by nonces.
    """
    attributes = nonce_attribute(nonce)
    with suppress(NoReverseMatch):
        api = reverse("shop_similarity_api:similar-to-several").removesuffix("products/similar/")
        attributes += format_html(' data-api="{}"', api)
    # Before the first picture of the page, so that the element's room is kept from the beginning.
    return format_html(
        '<script src="{}" async blocking="render"{}></script>',
        static("shop_similarity/similar-products.js"),
        attributes,
    )


@register.filter
def product_url(product: models.Model) -> str:
    """``{{ product|product_url }}``: address of a product's page, its ``get_absolute_url()`` or else its ``url``."""
    return catalogue.product_url(product)


@register.inclusion_tag("shop_similarity/picture.html")
def similarity_picture(image: Any, alt: str = "", sizes: str = SIZES, widths: str = "") -> dict[str, Any]:
    """An ``<img>`` with ``srcset`` for a photo, or a quiet placeholder where it is missing or unreadable.

    Args:
        image: field file of the photo, or None.
        alt: in words what it shows; empty, where the name stands beside it.
        sizes: how wide it is shown, as HTML's ``sizes`` says it.
        widths: widths in pixels of the copies, separated by commas; 240 and 480 by default.
    """
    wanted = [int(width) for width in widths.split(",")] if widths else WIDTHS
    return {"sources": sources(image, wanted), "alt": alt, "sizes": sizes}


@register.simple_tag
def is_sold_out(product: models.Model) -> bool:
    """``{% is_sold_out product as sold_out %}``: whether the ``IN_STOCK`` setting says that it can't be had now.

    False without the setting, and while the database is away. One statement.
    """
    try:
        return stock.is_sold_out(product)
    except DatabaseError as error:
        if not database.is_away(error) or database.in_transaction(database.read_alias()):
            raise
        log_database_away(error)
        return False


@register.simple_tag(takes_context=True)
def similar_products(
    context: template.Context,
    product: models.Model,
    limit: int = 8,
    among: models.QuerySet | None = None,
    heading: str | None = None,
    template_name: str = TEMPLATE,
    *,
    lazy: bool = False,
    **options: Any,
) -> str:
    """Render products that look like ``product``; nothing while there are none to show, or the database is away.

    Args:
        product: an instance of the product model.
        limit: the most products shown.
        among: queryset of the products that may be shown; what the ``PRODUCTS`` setting says by default.
        heading: text above the products.
        template_name: template of the whole widget; it includes ``shop_similarity/product_card.html`` for each product.
        lazy: whether the page is sent without the products, which load when the shopper comes near. Not together with
            ``among``, which can't travel to the address that they load from.
        options: the other attributes of :class:`shop_similarity.storefront.options.WidgetOptions`: ``layout``,
            ``heading_level``, ``element_id``, ``lean``, ``lean_to``, ``explain``, ``filters``, ``same_category``,
            ``price_min``, ``price_max``, ``min_similarity``, ``sold_out``, ``same``, ``other``, ``alternatives``.

    Raises:
        ValueError: an option out of its range, or ``lazy`` together with ``among``.
        TypeError: an option that does not exist.
        ImproperlyConfigured: ``lazy`` in a shop that does not include ``shop_similarity.urls``.
    """
    request = context.get("request")
    chosen = WidgetOptions(limit=limit, heading=heading, template_name=template_name, **options)
    choices, _errors = choices_of(request.GET if request else QueryDict(), chosen)
    if lazy and among is not None:
        raise ValueError("similar_products can't be lazy with `among`: give it other options, or leave lazy out.")
    try:
        if lazy:
            return _lazy(context, product, chosen, choices, request)
        address = Address.of_page(request) if request else None
        values = widget_context(product, chosen, choices, request=request, address=address, among=among)
        return "" if values is None else _render(context, template_name, values)
    except DatabaseError as error:
        # A transaction of the page's is lost with its connection, and the page would fail later and say less.
        if not database.is_away(error) or database.in_transaction(database.read_alias()):
            raise
        log_database_away(error)
        return ""


def _render(context: template.Context, name: str, values: dict[str, Any]) -> str:
    """Within the page's own context and engine, as ``{% include %}`` does."""
    with context.push(**values):
        # Bound, for a page is being rendered.
        assert context.template is not None
        return context.template.engine.get_template(name).render(context)


def _lazy(
    context: template.Context, product: models.Model, options: WidgetOptions, choices: Choices, request: Any
) -> str:
    src = fragment_url(product, options, choices)
    if not src:
        raise ImproperlyConfigured(
            "A lazy widget loads from the plugin's own address: add "
            'path("similarity/", include("shop_similarity.urls")) to the urls of the shop.'
        )
    version = version_for(request)
    if version is None and get_settings().fallback is None:
        return ""
    address = Address.of_fragment(product, options)
    values = frame(product, options, choices, version=version, address=address)
    values |= {"src": src, "page_url": address.url(choices.parameters()), "places": range(options.limit)}
    return _render(context, "shop_similarity/similar_products_lazy.html", values)
