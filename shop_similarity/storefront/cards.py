"""What the widget shows: look-alikes of a product, or the shop's own choice while there are none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.utils.module_loading import import_string

from ..catalogue import get_catalogue
from ..conf import get_settings
from ..models import ModelVersion
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
    limit: int,
    among: models.QuerySet | None = None,
    *,
    version: ModelVersion | None = None,
    options: SearchOptions | None = None,
    fallback: bool = True,
) -> list[Card]:
    """The cards of the widget for a product, most similar first; empty where there is nothing to show.

    Args:
        product: whose look-alikes are shown.
        limit: the most cards, where ``options`` does not say it.
        among: queryset of the products that may be shown.
        version: the one model version that finds all of them; the active one by default.
        options: how the search is done.
        fallback: whether the shop's own choice is shown where there is no look-alike.
    """
    options = options or SearchOptions(limit=limit)
    found = cached_similar_products(product, options.limit, among, version=version, options=options)
    if found:
        return [card_of(item) for item in found]
    path = get_settings().fallback
    if path is None or not fallback:
        return []
    limit = options.limit
    chosen: Iterable[models.Model] = import_string(path)(product, limit)
    if isinstance(chosen, models.QuerySet):
        chosen = get_catalogue().with_images(chosen)
    cards = []
    for item in chosen:
        if item.pk != product.pk and len(cards) < limit:
            images = get_catalogue().product_images(item)
            cards.append(Card(item, images[0] if images else None, None))
    return cards


def card_of(product: models.Model) -> Card:
    """The card of a product that a search of :mod:`shop_similarity.search` found."""
    return Card(
        product,
        _similar_image(product),
        product.similarity,
        getattr(product, "pinned", False),
        getattr(product, "explanation", None),
    )


def _similar_image(product: models.Model) -> Any:
    images = get_catalogue().product_images(product)
    for image in images:
        if image.instance.pk == product.similar_image_id:
            return image
    return images[0] if images else None
