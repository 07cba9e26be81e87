"""What a search is asked for beside its query: how many, from where, filtered by what, ranked how."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..catalogue.attributes import attribute_names
from ..catalogue.category_tree import CategoryTree
from ..catalogue.field_paths import setting_value
from ..catalogue.querysets import filterable
from ..conf import SETTING, get_settings
from .aspects import ASPECTS

MOST_OFFSET = 1_000
MOST_CATEGORIES = 100
_MOST_PRICE = Decimal(10) ** 15


@dataclass(frozen=True)
class Filter:
    """What is to be known about one filter wherever it can be chosen.

    Attributes:
        name: of the parameter in addresses and in the API, and of the field in forms.
        setting: the setting that says where the value is, in lower case.
        lookup: how the value is compared.
        label: in forms.
        help: in the description of the API.
    """

    name: str
    setting: str
    lookup: str
    label: Any
    help: Any

    @property
    def is_offered(self) -> bool:
        """Whether the shop says where the value is; without it there is no use for the filter."""
        return getattr(get_settings(), self.setting) is not None

    def form_field(self) -> forms.Field:
        """A field that may be left empty; a choice gets its choices from the shop's categories."""
        if self.lookup == "in":
            return forms.ChoiceField(label=self.label, required=False)
        return forms.DecimalField(label=self.label, min_value=0, max_digits=15, decimal_places=2, required=False)


_SEVERAL = _("Only products of this category, by its key. May be given several times: any of them.")
CATEGORY = Filter("category", "category", "in", _("Category"), _SEVERAL)
PRICE_MIN = Filter("price_min", "price", "gte", _("Price from"), _("Only products of at least this price."))
PRICE_MAX = Filter("price_max", "price", "lte", _("Price up to"), _("Only products of at most this price."))

_NO_PATH = {
    "category": _("This shop has no filter by category: %(setting)s names none."),
    "price": _("This shop has no filter by price: %(setting)s names none."),
}


@dataclass(frozen=True)
class Filters:
    """Which products may be found, by category and price.

    Attributes:
        categories: values of the ``CATEGORY`` setting, as text or as they are; a product of any of them,
            or of one below it in a tree, passes. Empty: all pass.
        price_min, price_max: bounds of the ``PRICE`` setting's value, both included; text and numbers are taken
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
                gettext("%(count)d categories are too many; a search takes up to %(most)d.")
                % {"count": len(categories), "most": MOST_CATEGORIES}
            )
        object.__setattr__(self, "categories", categories)
        for name in ("price_min", "price_max"):
            object.__setattr__(self, name, price(getattr(self, name)))
        if self.price_min is not None and self.price_max is not None and self.price_min > self.price_max:
            raise ValueError(
                gettext("The lowest price, %(low)s, is above the highest, %(high)s.")
                % {"low": self.price_min, "high": self.price_max}
            )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Filters:
        """Of values by the names of their filters, such as a form's; what is empty filters nothing.

        Raises:
            ValueError: as the class itself.
        """
        return cls(values.get(CATEGORY.name) or (), values.get(PRICE_MIN.name), values.get(PRICE_MAX.name))

    def __bool__(self) -> bool:
        return self != Filters()

    def apply(self, queryset: QuerySet) -> QuerySet:
        """The products of ``queryset`` that pass, as a queryset that can be filtered and ordered further.

        Raises:
            ValueError: the queryset yields no instances, a category can't be one, or the shop's settings name no
                category or no price.
        """
        queryset = filterable(queryset)
        conditions: dict[str, dict[str, Any]] = {}
        values = ((CATEGORY, self.categories or None), (PRICE_MIN, self.price_min), (PRICE_MAX, self.price_max))
        for filter, value in values:
            if value is not None:
                conditions.setdefault(filter.setting, {})[filter.lookup] = value
        for setting, lookups in conditions.items():
            described = setting_value(setting)
            if described is None:
                raise ValueError(_NO_PATH[setting] % {"setting": f"{SETTING}[{setting.upper()!r}]"})
            if "in" in lookups:
                try:
                    lookups["in"] = [described.parse(text) for text in lookups["in"]]
                except ValueError as error:
                    raise ValueError(
                        gettext("One of the categories can't be a category of this shop: %(error)s") % {"error": error}
                    ) from error
                if tree := CategoryTree.of(described):
                    lookups["in"] = tree.below(lookups["in"])
            # Both bounds of a price at once: they have to hold for one and the same value.
            queryset = described.select(queryset, **lookups)
        return queryset


def price(value: Any) -> Decimal | None:
    """The price that a text or a number stands for; None where it is empty.

    Raises:
        ValueError: it is no number, or below zero, or has more than 15 digits.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise ValueError(gettext("%(value)r is no price; write a number such as 19.90.") % {"value": str(value)[:40]})
    if not 0 <= number < _MOST_PRICE:
        raise ValueError(
            gettext("%(value)s is no price: it must be 0 or more and have at most 15 digits.")
            % {"value": str(value)[:40]}
        )
    return number


def names_of_attributes(given: Any) -> tuple[str, ...]:
    """Names of the ``ATTRIBUTES`` setting, of one text with commas or several texts.

    Raises:
        ValueError: the shop has no attribute of such a name.
    """
    texts = given.split(",") if isinstance(given, str) else given or ()
    names = tuple(dict.fromkeys(str(text).strip() for text in texts if str(text).strip()))
    known = attribute_names()
    for name in names:
        if name not in known:
            raise ValueError(
                gettext("This shop has no attribute %(name)r; %(setting)s names: %(known)s.")
                % {"name": name[:40], "setting": f"{SETTING}['ATTRIBUTES']", "known": ", ".join(known) or "-"}
            )
    return names


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
        same: names of the ``ATTRIBUTES`` setting: only products that share their value with what was asked with, such
            as products of its brand.
        other: names of the ``ATTRIBUTES`` setting: only products that do not.
        sold_out: whether products are found too that the ``IN_STOCK`` setting says can't be had.
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
    sold_out: bool = False
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @classmethod
    def of(cls, limit: int | None, options: SearchOptions | None, **defaults: Any) -> SearchOptions:
        """The options of a search that takes either a limit alone or options, which come with a limit of their own.

        Args:
            limit, options: as given, at most one of them.
            defaults: what this search means by attributes that are None.

        Raises:
            TypeError: both are given.
            ValueError: the limit is negative.
        """
        if options is None:
            options = cls() if limit is None else cls(limit=limit)
        elif limit is not None:
            raise TypeError(
                f"The limit is given twice, as {limit} and as {options.limit} in the options: write it into the "
                "options alone."
            )
        return replace(options, **{name: value for name, value in defaults.items() if getattr(options, name) is None})

    def __post_init__(self) -> None:
        for name in ("same", "other"):
            object.__setattr__(self, name, names_of_attributes(getattr(self, name)))
        if self.limit < 0:
            raise ValueError(gettext("limit is %(limit)d; it can't be negative.") % {"limit": self.limit})
        if not 0 <= self.offset <= MOST_OFFSET:
            raise ValueError(
                gettext("offset is %(offset)d; it must lie in 0 to %(most)d.")
                % {"offset": self.offset, "most": MOST_OFFSET}
            )
        if self.lean is not None and self.lean not in ASPECTS:
            raise ValueError(
                gettext("Results can't lean towards %(lean)r; choose one of %(names)s.")
                % {"lean": str(self.lean)[:40], "names": ", ".join(ASPECTS)}
            )
        if self.diversity is not None and not (math.isfinite(self.diversity) and 0 <= self.diversity <= 1):
            raise ValueError(
                gettext("diversity is %(diversity)s; it must lie in 0 to 1.") % {"diversity": self.diversity}
            )
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise ValueError(
                gettext("min_similarity is %(value)s; it must lie in -1 to 1.") % {"value": self.min_similarity}
            )
