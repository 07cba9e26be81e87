"""What the widget shows: look-alikes of a product, or the shop's own choice while there are none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.utils.module_loading import import_string

from ..catalogue import get_catalogue
from ..catalogue.stock import in_stock
from ..conf import get_settings
from ..engine_errors import EngineDown
from ..models import ModelVersion
from ..photos.thumbnails import shown_together
from ..search.aspects import Explanation
from ..search.cache import cached_similar_products
from ..search.options import SearchOptions


@dataclass(frozen=True)
class Card:
    """One product of the widget.

    Attributes:
        product: the product.
        image: file of the photo that looks most alike, or of the first photo; None where it has none.
        similarity: cosine, -1 to 1; None for a product that the fallback chose.
        pinned: whether a merchandiser's rule put it there.
        explanation: what makes it similar, where that was asked for and is known.
    """

    product: models.Model
    image: Any
    similarity: float | None
    pinned: bool = False
    explanation: Explanation | None = None


def widget_cards(
    product: models.Model,
    options: SearchOptions,
    among: models.QuerySet | None = None,
    *,
    version: ModelVersion | None = None,
    fallback: bool = True,
) -> list[Card]:
    """The cards of the widget for a product, most similar first; empty where there is nothing to show.

    Args:
        product: whose look-alikes are shown.
        options: how the search is done; its limit is the most cards.
        among: queryset of the products that may be shown.
        version: the one model version that finds all of them; the active one by default.
        fallback: whether the shop's own choice is shown where there is no look-alike.
    """
    try:
        matches = cached_similar_products(product, among=among, version=version, options=options)
    except EngineDown:
        # The page is the shop's, and has other things to show. It was logged when the engine fell silent.
        matches = []
    path = get_settings().fallback
    if matches or path is None or not fallback:
        return cards_of(matches)
    substitutes: Iterable[models.Model] = import_string(path)(product, options.limit)
    others = list(itertools.islice((other for other in substitutes if other.pk != product.pk), options.limit))
    if not options.sold_out:
        others = _in_stock(others)
    catalogue = get_catalogue()
    shown = [(other, catalogue.product_photos(other)) for other in catalogue.with_images(others)]
    cards = [Card(other, photos[0].file if photos else None, None) for other, photos in shown]
    shown_together(card.image for card in cards)
    return cards


def cards_of(products: Iterable[models.Model]) -> list[Card]:
    """The cards of products that one search found, to be shown on one page."""
    cards = [card_of(product) for product in products]
    shown_together(card.image for card in cards)
    return cards


def _in_stock(products: list[models.Model]) -> list[models.Model]:
    """Those that can be had; one statement, none without the ``IN_STOCK`` setting."""
    if get_settings().in_stock is None or not products:
        return products
    rows = get_catalogue().all_products().filter(pk__in=[product.pk for product in products])
    keys = set(in_stock(rows).values_list("pk", flat=True))
    return [product for product in products if product.pk in keys]


def card_of(product: Any) -> Card:
    """The card of a product that a search of :mod:`shop_similarity.search` found."""
    photos = get_catalogue().product_photos(product)
    first = photos[0].file if photos else None
    return Card(
        product,
        next((photo.file for photo in photos if photo.image_id == product.similar_image_id), first),
        product.similarity,
        getattr(product, "pinned", False),
        getattr(product, "explanation", None),
    )
