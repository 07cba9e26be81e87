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

from ..catalogue import get_catalogue, key_segment, setting_value
from ..catalogue.stock import is_sold_out
from ..feedback import tokens
from ..models import ModelVersion, Surface
from ..search import options as search
from ..search.aspects import ASPECTS, LABELS, has_aspects
from .cards import Card, widget_cards
from .experiment_arms import Assignment, assignment_for
from .options import CATEGORY, LEAN, NAMES, NO_LEANING, PRICE_MAX, Choices, WidgetOptions


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
        parameters = request.GET.copy()
        for name in NAMES:
            parameters.pop(name, None)
        return cls(request.path, parameters)

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
        return cls(reverse("shop_similarity:similar-products", args=[key_segment(product.pk)]), parameters)

    def url(self, choices: dict[str, str], anchor: str = "") -> str:
        query = "&".join(filter(None, [self.parameters.urlencode(), urlencode(choices)]))
        return self.path + (f"?{query}" if query else "") + (f"#{anchor}" if anchor else "")

    def hidden(self) -> list[tuple[str, str]]:
        """What a form has to send along, for the address of a GET form loses its parameters."""
        return [(name, value) for name, values in self.parameters.lists() for value in values]


def fragment_url(product: models.Model, options: WidgetOptions, choices: Choices | None = None) -> str:
    """Address of the widget alone; empty where the shop does not include ``shop_similarity.urls``."""
    try:
        path = reverse("shop_similarity:similar-products", args=[key_segment(product.pk)])
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


def search_options(product: models.Model, options: WidgetOptions, choices: Choices) -> search.SearchOptions:
    """What is searched for: what the template says, narrowed by what the shopper says."""
    lean = choices.lean or options.lean_to
    categories: tuple[Any, ...] = ()
    if (options.same_category or choices.same_category) and (category := setting_value(search.CATEGORY.setting)):
        own = category.values(get_catalogue().all_products().filter(pk=product.pk))
        categories = tuple(own.distinct()[: search.MOST_CATEGORIES])
    bounds = [bound for bound in (options.price_max, choices.price_max) if bound is not None]
    price_max = min(bounds) if bounds and search.PRICE_MAX.is_offered else None
    price_min = options.price_min if search.PRICE_MIN.is_offered else None
    if price_min is not None and price_max is not None:
        # A shopper's price below the shop's lowest finds nothing, which is no mistake.
        price_min = min(price_min, price_max)
    return search.SearchOptions(
        limit=options.limit,
        filters=search.Filters(categories, price_min, price_max),
        lean=None if lean == NO_LEANING else lean,
        explain=options.explain,
        min_similarity=options.min_similarity,
        sold_out=options.sold_out,
        same=options.same,
        other=options.other,
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
    if options.alternatives and not is_sold_out(product):
        return None
    arm = assignment_for(request)
    wishes = search_options(product, options, choices)
    # What the shop would show instead need not be of the brand that was asked for.
    fallback = not (choices.is_filter or options.same or options.other)
    cards = widget_cards(product, wishes, among, version=arm.version, fallback=fallback)
    if not cards and not choices.is_filter:
        return None
    is_fallback = bool(cards) and cards[0].similarity is None
    context = frame(product, options, choices, version=arm.version, address=address, among=among)
    return context | {
        "cards": cards,
        "is_fallback": is_fallback,
        "status": _status(cards, choices, context["lean_choices"]),
        **_feedback(product, arm, [] if is_fallback else cards),
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
    identity = options.element_id or f"similar-products-{key_segment(product.pk)}"
    context = {
        "similar_to": product,
        "options": options,
        "heading": options.heading,
        "heading_level": options.heading_level,
        "layout": options.layout,
        "element_id": identity,
        "choices": choices,
        "field_names": {"category": CATEGORY, "price_max": PRICE_MAX},
    }
    if address is None or not (options.lean or options.filters):
        return context | _NO_CHOICES
    has_category, has_price = search.CATEGORY.is_offered, search.PRICE_MAX.is_offered
    offers_filters = options.filters and (has_category or has_price)
    unfiltered = replace(choices, same_category=False, price_max=None)
    # A queryset can't travel to the fragment's address: without it, a swap would show other products.
    swap = fragment_url(product, options) if among is None else ""
    return context | {
        "lean_choices": _lean_choices(product, options, choices, version, address, identity, bool(swap)),
        "offers_filters": offers_filters,
        "offers_category": offers_filters and has_category and not options.same_category,
        "offers_price": offers_filters and has_price,
        "form_action": f"{address.path}#{identity}",
        "form_hidden": [*address.hidden(), *((LEAN, choices.lean),) * bool(choices.lean)],
        "form_swap": swap,
        "reset_url": address.url(unfiltered.parameters(), identity),
        "reset_swap": fragment_url(product, options, unfiltered) if swap else "",
    }


_NO_CHOICES: dict[str, Any] = {
    "lean_choices": [],
    **dict.fromkeys(("offers_filters", "offers_category", "offers_price"), False),
    "form_hidden": [],
    **dict.fromkeys(("form_action", "form_swap", "reset_url", "reset_swap"), ""),
}


def _lean_choices(
    product: models.Model,
    options: WidgetOptions,
    choices: Choices,
    version: ModelVersion | None,
    address: Address,
    identity: str,
    swaps: bool,
) -> list[Choice]:
    if not options.lean or version is None or not has_aspects(version):
        return []
    current = choices.lean or options.lean_to or NO_LEANING
    offers = []
    for name in (NO_LEANING, *ASPECTS):
        # The default needs no parameter, so that there is one address for it.
        choice = replace(choices, lean=None if name == (options.lean_to or NO_LEANING) else name)
        offers.append(
            Choice(
                _("everything") if name == NO_LEANING else str(LABELS[name]),
                address.url(choice.parameters(), identity),
                fragment_url(product, options, choice) if swaps else "",
                name == current,
            )
        )
    return offers


def _status(cards: list[Card], choices: Choices, lean_choices: list[Choice]) -> str:
    """What a screen reader says when the list has been exchanged."""
    count = ngettext("%(count)d product", "%(count)d products", len(cards)) % {"count": len(cards)}
    if not cards:
        count = _("No product matches.")
    current = next((choice.label for choice in lean_choices if choice.is_current), None)
    if choices.lean and choices.lean != NO_LEANING and current:
        return _("%(count)s, most similar in %(aspect)s first") % {"count": count, "aspect": current}
    return count


def _feedback(product: models.Model, arm: Assignment, cards: list[Card]) -> dict[str, str]:
    url = events_url()
    if not url or arm.version is None or not cards:
        return {"token": "", "events_url": ""}  # no token at all  # nosec B105
    token = tokens.issue(
        version=arm.version,
        surface=Surface.WIDGET,
        product_id=product.pk,
        shown=[card.product.pk for card in cards],
        experiment=arm.experiment,
    )
    return {"token": token, "events_url": url if token else ""}
