"""What the templates of the widget are given, for the tag and for the fragment alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.db import models
from django.http import HttpRequest, QueryDict
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..catalogue import get_catalogue
from ..conf import get_settings
from ..feedback import tokens
from ..models import ModelVersion, Surface
from ..search.aspects import ASPECTS, LABELS, has_aspects
from ..search.options import MOST_CATEGORIES, Filters, SearchOptions
from .cards import Card, widget_cards
from .choices import CATEGORY, LEAN, NAMES, NO_LEANING, PRICE_MAX, Choices
from .experiment_arms import experiment_for, version_for
from .options import WidgetOptions


@dataclass(frozen=True)
class Choice:
    """One thing that the shopper can choose by a link.

    Attributes:
        label: in words.
        url: address of the page that shows it.
        fragment_url: address of the widget alone; empty where the shop has no such address.
        is_current: whether it is chosen now.
    """

    label: str
    url: str
    fragment_url: str
    is_current: bool


@dataclass(frozen=True)
class Address:
    """Where the widget stands: the page's path and those of its parameters that the widget has nothing to do with."""

    path: str
    parameters: QueryDict

    @classmethod
    def of_page(cls, request: HttpRequest) -> Address:
        return cls(request.path, _without(request.GET, NAMES))

    @classmethod
    def of_fragment(cls, product: models.Model, options: WidgetOptions) -> Address:
        """The page that the plugin itself has for the product's look-alikes.

        Raises:
            NoReverseMatch: the shop does not include ``shop_similarity.urls``.
        """
        parameters = QueryDict(mutable=True)
        if signed := options.signed():
            parameters["options"] = signed
        parameters["page"] = "1"
        return cls(reverse("shop_similarity:similar-products", args=[product.pk]), parameters)

    def url(self, choices: dict[str, str], anchor: str = "") -> str:
        query = "&".join(filter(None, [self.parameters.urlencode(), urlencode(choices)]))
        return self.path + (f"?{query}" if query else "") + (f"#{anchor}" if anchor else "")

    def hidden(self) -> list[tuple[str, str]]:
        """What a form has to send along, for the address of a GET form loses its parameters."""
        return [(name, value) for name, values in self.parameters.lists() for value in values]


def _without(parameters: QueryDict, names: tuple[str, ...]) -> QueryDict:
    kept = parameters.copy()
    for name in names:
        kept.pop(name, None)
    return kept


def fragment_url(product: models.Model, options: WidgetOptions, choices: Choices | None = None) -> str:
    """Address of the widget alone; empty where the shop does not include ``shop_similarity.urls``."""
    try:
        path = reverse("shop_similarity:similar-products", args=[product.pk])
    except NoReverseMatch:
        return ""
    signed = options.signed()
    query = urlencode(({"options": signed} if signed else {}) | (choices.parameters() if choices else {}))
    return f"{path}?{query}" if query else path


def events_url() -> str:
    """Where beacons go; empty where the shop does not include ``shop_similarity.urls``."""
    try:
        return reverse("shop_similarity:events")
    except NoReverseMatch:
        return ""


def element_id(product: models.Model, options: WidgetOptions) -> str:
    return options.element_id or f"similar-products-{product.pk}"


def search_options(product: models.Model, options: WidgetOptions, choices: Choices) -> SearchOptions:
    """What is searched for: what the template says, narrowed by what the shopper says."""
    config = get_settings()
    lean = choices.lean or options.lean_to
    categories: tuple[Any, ...] = ()
    if config.category and (options.same_category or choices.same_category):
        own = get_catalogue().all_products().filter(pk=product.pk, **{f"{config.category}__isnull": False})
        categories = tuple(own.values_list(config.category, flat=True).distinct()[:MOST_CATEGORIES])
    bounds = [bound for bound in (options.price_max, choices.price_max) if bound is not None]
    price_max = min(bounds) if bounds and config.price else None
    price_min = options.price_min if config.price else None
    if price_min is not None and price_max is not None:
        # A shopper's price below the shop's lowest finds nothing, which is no mistake.
        price_min = min(price_min, price_max)
    return SearchOptions(
        limit=options.limit,
        filters=Filters(categories, price_min, price_max),
        lean=None if lean == NO_LEANING else lean,
        explain=options.explain,
        min_similarity=options.min_similarity,
    )


def widget_context(
    product: models.Model,
    options: WidgetOptions,
    choices: Choices,
    *,
    request: HttpRequest | None,
    address: Address | None,
    among: models.QuerySet | None = None,
) -> dict[str, Any] | None:
    """The variables of ``similar_products.html``, described in docs/storefront.md; None where nothing is to be shown.

    Args:
        product: whose look-alikes are shown.
        options: what the template says.
        choices: what the shopper says.
        request: the page's, for the model version and the running experiment.
        address: the page that links without JavaScript lead to; None offers no choices.
        among: queryset of the products that may be shown.
    """
    version = version_for(request)
    cards = widget_cards(
        product,
        search_options(product, options, choices),
        among,
        version=version,
        fallback=not choices.is_filter,
    )
    if not cards and not choices.is_filter:
        return None
    is_fallback = bool(cards) and cards[0].similarity is None
    context = frame(product, options, choices, version=version, address=address, among=among)
    return context | {
        "cards": cards,
        "is_fallback": is_fallback,
        "status": _status(cards, choices, context["lean_choices"]),
        **_feedback(product, version, request, [] if is_fallback else cards),
    }


def frame(
    product: models.Model,
    options: WidgetOptions,
    choices: Choices,
    *,
    version: ModelVersion | None,
    address: Address | None,
    among: models.QuerySet | None = None,
) -> dict[str, Any]:
    """All but the products: heading, layout and what the shopper can choose."""
    config = get_settings()
    identity = element_id(product, options)
    # A queryset can't travel to the fragment's address: without it, a swap would show other products.
    swap = fragment_url(product, options) if among is None else ""
    offers_filters = options.filters and address is not None and bool(config.category or config.price)
    return {
        "similar_to": product,
        "options": options,
        "heading": options.heading,
        "heading_level": options.heading_level,
        "layout": options.layout,
        "element_id": identity,
        "choices": choices,
        "lean_choices": _lean_choices(product, options, choices, version, address, bool(swap)),
        "offers_filters": offers_filters,
        "offers_category": offers_filters and bool(config.category) and not options.same_category,
        "offers_price": offers_filters and bool(config.price),
        "form_action": f"{address.path}#{identity}" if address else "",
        "form_hidden": [*address.hidden(), *((LEAN, choices.lean),) * bool(choices.lean)] if address else [],
        "form_swap": swap,
        "reset_url": address.url(replace(choices, same_category=False, price_max=None).parameters(), identity)
        if address
        else "",
        "reset_swap": fragment_url(product, options, replace(choices, same_category=False, price_max=None))
        if swap
        else "",
        "field_names": {"category": CATEGORY, "price_max": PRICE_MAX},
    }


def _lean_choices(
    product: models.Model,
    options: WidgetOptions,
    choices: Choices,
    version: ModelVersion | None,
    address: Address | None,
    swaps: bool,
) -> list[Choice]:
    if not options.lean or address is None or version is None or not has_aspects(version):
        return []
    current = choices.lean or options.lean_to or NO_LEANING
    identity = element_id(product, options)
    offered = []
    for name in (NO_LEANING, *ASPECTS):
        # The default needs no parameter, so that there is one address for it.
        chosen = replace(choices, lean=None if name == (options.lean_to or NO_LEANING) else name)
        offered.append(
            Choice(
                _("everything") if name == NO_LEANING else str(LABELS[name]),
                address.url(chosen.parameters(), identity),
                fragment_url(product, options, chosen) if swaps else "",
                name == current,
            )
        )
    return offered


def _status(cards: list[Card], choices: Choices, lean_choices: list[Choice]) -> str:
    """What a screen reader says when the list has been exchanged."""
    count = ngettext("%(count)d product", "%(count)d products", len(cards)) % {"count": len(cards)}
    if not cards:
        count = _("No product matches.")
    current = next((choice.label for choice in lean_choices if choice.is_current), None)
    if choices.lean and choices.lean != NO_LEANING and current:
        return _("%(count)s, most similar in %(aspect)s first") % {"count": count, "aspect": current}
    return count


def _feedback(
    product: models.Model, version: ModelVersion | None, request: HttpRequest | None, cards: list[Card]
) -> dict[str, str]:
    url = events_url()
    if not url or version is None or not cards:
        return {"token": "", "events_url": ""}
    token = tokens.issue(
        version=version,
        surface=Surface.WIDGET,
        product_id=product.pk,
        shown=[card.product.pk for card in cards],
        experiment=experiment_for(request),
    )
    return {"token": token, "events_url": url if token else ""}
