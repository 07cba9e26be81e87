"""What a search is asked for beside its query: how many, from where, filtered by what, ranked how."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from ..catalogue.field_paths import setting_path
from ..conf import SETTING
from .aspects import ASPECTS

MOST_OFFSET = 1_000
MOST_CATEGORIES = 100
_MOST_PRICE = Decimal(10) ** 15


@dataclass(frozen=True)
class Filters:
    """Which products may be found, by category and price.

    Attributes:
        categories: values of the ``CATEGORY`` setting's field path, as text or as they are; a product of any of them
            passes. Empty: all pass.
        price_min, price_max: bounds of the ``PRICE`` setting's field path, both included; text and numbers are taken
            too. A product without a price passes no bound. Of several prices, one has to lie within both.

    Raises:
        ValueError: a bound is no number or below zero, the bounds are the wrong way round, or there are more than 100
            categories.
    """

    categories: tuple[Any, ...] = ()
    price_min: Decimal | None = None
    price_max: Decimal | None = None

    def __post_init__(self) -> None:
        categories = self.categories
        if isinstance(categories, str) or not isinstance(categories, Iterable):
            categories = (categories,)
        categories = tuple(dict.fromkeys(str(value) for value in categories))
        if len(categories) > MOST_CATEGORIES:
            raise ValueError(
                _("%(count)d categories are too many; a search takes up to %(most)d.")
                % {"count": len(categories), "most": MOST_CATEGORIES}
            )
        object.__setattr__(self, "categories", categories)
        for name in ("price_min", "price_max"):
            object.__setattr__(self, name, _price(getattr(self, name)))
        if self.price_min is not None and self.price_max is not None and self.price_min > self.price_max:
            raise ValueError(
                _("The lowest price, %(low)s, is above the highest, %(high)s.")
                % {"low": self.price_min, "high": self.price_max}
            )

    def __bool__(self) -> bool:
        return bool(self.categories) or self.price_min is not None or self.price_max is not None

    def apply(self, queryset: QuerySet) -> QuerySet:
        """The products of ``queryset`` that pass, each once.

        Raises:
            ValueError: a category can't be one, or the shop's settings name no category or no price.
        """
        if self.categories:
            path = setting_path("category")
            if path is None:
                raise ValueError(
                    _("This shop has no filter by category: %(setting)s names none.")
                    % {"setting": f"{SETTING}['CATEGORY']"}
                )
            try:
                values = [path.parse(text) for text in self.categories]
            except ValueError as error:
                raise ValueError(
                    _("One of the categories can't be a category of this shop: %(error)s") % {"error": error}
                ) from error
            queryset = path.select(queryset, **{"in": values})
        bounds = {
            name: bound for name, bound in (("gte", self.price_min), ("lte", self.price_max)) if bound is not None
        }
        if bounds:
            path = setting_path("price")
            if path is None:
                raise ValueError(
                    _("This shop has no filter by price: %(setting)s names none.") % {"setting": f"{SETTING}['PRICE']"}
                )
            queryset = path.select(queryset, **bounds)
        return queryset


def _price(value: Any) -> Decimal | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        price = Decimal(str(value).strip())
    except InvalidOperation:
        price = Decimal("nan")
    if not price.is_finite():
        raise ValueError(_("%(value)r is no price; write a number such as 19.90.") % {"value": str(value)[:40]})
    if not 0 <= price < _MOST_PRICE:
        raise ValueError(
            _("%(value)s is no price: it must be 0 or more and have at most 15 digits.") % {"value": str(value)[:40]}
        )
    return price


@dataclass(frozen=True)
class SearchOptions:
    """How a search is done. All defaults together are what the widget shows.

    Attributes:
        limit: how many products.
        offset: how many of the list are passed over before; pages of one limit never repeat or lose a product while
            the catalogue stays as it is. Up to 1,000.
        filters: by category and price.
        lean: ``"colour"``, ``"pattern"`` or ``"shape"``: products alike in this count for more. Ignored by a version
            that can't tell them apart, see :func:`shop_similarity.search.can_lean`.
        diversity: 0 ranks by similarity alone, 1 by unlikeness to what stands above; None: the ``DIVERSITY`` setting.
        min_similarity: products below this cosine, -1 to 1, are left out, except pinned ones; None: the
            ``MIN_SIMILARITY`` setting for what looks like products, no bound for what looks like a vector.
        collapse: whether of variants and near-identical products one is shown.
        rules: whether the merchandiser's rules apply.
        explain: whether each product gets its ``explanation``; one more SQL query.

    Raises:
        ValueError: a value out of its range, with a sentence that says which.
    """

    limit: int = 8
    offset: int = 0
    filters: Filters = field(default_factory=Filters)
    lean: str | None = None
    diversity: float | None = None
    min_similarity: float | None = None
    collapse: bool = True
    rules: bool = True
    explain: bool = False

    @classmethod
    def of(cls, limit: int | None, options: SearchOptions | None) -> SearchOptions:
        """The options of a search that takes either a limit alone or options, which come with a limit of their own.

        Raises:
            TypeError: both are given.
            ValueError: the limit is negative.
        """
        if options is None:
            return cls() if limit is None else cls(limit=limit)
        if limit is not None:
            raise TypeError(
                f"The limit is given twice, as {limit} and as {options.limit} in the options: write it into the "
                "options alone."
            )
        return options

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError(_("limit is %(limit)d; it can't be negative.") % {"limit": self.limit})
        if not 0 <= self.offset <= MOST_OFFSET:
            raise ValueError(
                _("offset is %(offset)d; it must lie in 0 to %(most)d.") % {"offset": self.offset, "most": MOST_OFFSET}
            )
        if self.lean is not None and self.lean not in ASPECTS:
            raise ValueError(
                _("Results can't lean towards %(lean)r; choose one of %(names)s.")
                % {"lean": str(self.lean)[:40], "names": ", ".join(ASPECTS)}
            )
        if self.diversity is not None and not (math.isfinite(self.diversity) and 0 <= self.diversity <= 1):
            raise ValueError(_("diversity is %(diversity)s; it must lie in 0 to 1.") % {"diversity": self.diversity})
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise ValueError(_("min_similarity is %(value)s; it must lie in -1 to 1.") % {"value": self.min_similarity})
