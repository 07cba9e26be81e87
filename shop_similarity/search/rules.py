"""The merchandiser's rules as a search applies them: what is pinned where, what is hidden, what is worth more.

One query per search reads the rules that concern it, so that a change counts from the next page on, in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import models
from django.db.models import Case, F, Q, QuerySet, When
from django.db.models.functions import Cast

from ..catalogue import get_catalogue
from ..catalogue.attributes import attribute_names
from ..catalogue.category_tree import CategoryTree
from ..catalogue.field_paths import setting_value
from ..models import MerchandisingRule
from .candidates import Candidate

# More pins and boosts for one list than anybody can mean; the most specific ones count, of these the newest.
_MOST = 500


@dataclass(frozen=True)
class Pin:
    """A product, or the most similar one of a category, at a position (1 is the first) or at the first free one."""

    product_id: Any
    category: str
    position: int | None


@dataclass(frozen=True)
class Rules:
    """What the rules in force say about one list.

    Attributes:
        pins: in the order in which they get their positions: those of a product before those of a category before
            those for everything, newer ones first.
        hidden_products, hidden_categories: what is never shown, pinned or not.
        hidden_by: where more products are hidden than can be told one by one, the rules that hide them.
        product_boosts, category_boosts: what is added to the similarity in the ranking; several add up.
        attribute_boosts: what is added to the similarity of products that share an attribute, by its name.
        same, other: names of the attributes that products have to share with what was asked with, or must not.
    """

    pins: tuple[Pin, ...] = ()
    hidden_products: frozenset[Any] = frozenset()
    hidden_categories: frozenset[str] = frozenset()
    hidden_by: QuerySet | None = None
    product_boosts: dict[Any, float] = field(default_factory=dict)
    category_boosts: dict[str, float] = field(default_factory=dict)
    attribute_boosts: dict[str, float] = field(default_factory=dict)
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def boost(self, candidate: Candidate) -> float:
        """What is added to a candidate's similarity."""
        return self.product_boosts.get(candidate.product_id, 0.0) + sum(
            self.category_boosts.get(category, 0.0) for category in candidate.categories
        )

    @property
    def candidate_keys(self) -> list[Any]:
        """Keys of the products that have to be compared however far away they are."""
        pinned = [pin.product_id for pin in self.pins if pin.product_id is not None]
        return list(dict.fromkeys([*pinned, *(key for key, boost in self.product_boosts.items() if boost > 0)]))

    def boosted(self) -> QuerySet | None:
        """Products of the categories that may rise from further down."""
        return _of_categories(
            [pin.category for pin in self.pins if pin.category]
            + [category for category, boost in self.category_boosts.items() if boost > 0]
        )

    def hidden(self) -> list[QuerySet]:
        """Products that are hidden beside :attr:`hidden_products`."""
        hidden = []
        if (products := _of_categories(self.hidden_categories)) is not None:
            hidden.append(products)
        if self.hidden_by is not None:
            targets = self.hidden_by.values("target_product_id")
            hidden.append(get_catalogue().all_products().filter(pk__in=targets))
        return hidden


NO_RULES = Rules()


def relevant_rules(products: Sequence[models.Model]) -> QuerySet:
    """The rules in force for the look-alikes of these products: theirs, their categories' and those for all.

    Those of the product that a child is shown by are a child's too.
    """
    place = Q(product_id__isnull=True, category="")
    shown_key = get_catalogue().shown_key
    keys = list(dict.fromkeys(key for product in products for key in (product.pk, shown_key(product))))
    if keys:
        place |= Q(product_id__in=keys)
        value = setting_value("category")
        if value is not None:
            own = value.values(get_catalogue().all_products().filter(pk__in=keys))
            if tree := CategoryTree.of(value):
                own = tree.nodes().filter(**{f"{tree.field.attname}__in": tree.above(own)})
                categories = own.values_list(Cast(tree.field.attname, models.TextField()))
            else:
                categories = own.values_list(Cast(F(value.alias), models.TextField()))
            place |= Q(product_id__isnull=True, category__in=categories) & ~Q(category="")
    return MerchandisingRule.objects.in_force().filter(place)


def rules_for(products: Sequence[models.Model]) -> Rules:
    """The rules in force for the look-alikes of these products together; of none, those for all products.

    One query, and three more where they are more than :data:`_MOST`: no rule that hides is ever left out.
    """
    kinds = MerchandisingRule.Kind
    columns: tuple[str, ...] = ("kind", "product_id", "category", "target_product_id", "target_category")
    columns += ("position", "boost", "attribute")
    relevant = relevant_rules(products)
    # Of a product, then of a category, then for all; of each the newest first.
    breadth = Case(When(product_id__isnull=False, then=0), When(category="", then=2), default=1)
    order = (breadth, "-updated_at", "-pk")
    rows = list(relevant.order_by(*order).values_list(*columns, named=True)[: _MOST + 1])
    if not rows:
        return NO_RULES
    hidden_by, hidden_categories = None, set()
    if len(rows) > _MOST:
        hiding = relevant.filter(kind=kinds.HIDE).order_by()
        rows = list(relevant.exclude(kind=kinds.HIDE).order_by(*order).values_list(*columns, named=True)[:_MOST])
        rows += hiding.filter(target_product_id__isnull=False).values_list(*columns, named=True)[: _MOST + 1]
        hidden_categories |= set(
            hiding.filter(target_product_id__isnull=True).values_list("target_category", flat=True).distinct()
        )
        if sum(row.kind == kinds.HIDE for row in rows) > _MOST:
            rows = [row for row in rows if row.kind != kinds.HIDE]
            hidden_by = hiding.filter(target_product_id__isnull=False)
    pins: dict[Any, Pin] = {}
    hidden_products = set()
    product_boosts: dict[Any, float] = {}
    category_boosts: dict[str, float] = {}
    attribute_boosts: dict[str, float] = {}
    chosen: dict[str, str] = {}
    known = attribute_names()
    for row in rows:
        target, category = row.target_product_id, row.target_category
        if row.attribute:
            # Of an attribute that the shop has no longer nothing is left to say.
            if row.attribute in known and row.kind == kinds.SHARE:
                attribute_boosts[row.attribute] = attribute_boosts.get(row.attribute, 0.0) + (row.boost or 0.0)
            elif row.attribute in known:
                # The most specific one decides, of these the newest.
                chosen.setdefault(row.attribute, row.kind)
        elif row.kind == kinds.HIDE:
            hidden_products.add(target) if target is not None else hidden_categories.add(category)
        elif row.kind == kinds.PIN:
            pins.setdefault((target, category), Pin(target, category, row.position))
        elif row.boost and target is not None:
            product_boosts[target] = product_boosts.get(target, 0.0) + row.boost
        elif row.boost:
            category_boosts[category] = category_boosts.get(category, 0.0) + row.boost
    shown = tuple(
        pin
        for pin in pins.values()
        if pin.product_id not in hidden_products and (not pin.category or pin.category not in hidden_categories)
    )
    return Rules(
        shown,
        frozenset(hidden_products),
        frozenset(hidden_categories),
        hidden_by,
        product_boosts,
        category_boosts,
        {name: weight for name, weight in attribute_boosts.items() if weight},
        tuple(name for name, kind in chosen.items() if kind == kinds.SAME),
        tuple(name for name, kind in chosen.items() if kind == kinds.OTHER),
    )


def _of_categories(texts: Sequence[str] | frozenset[str]) -> QuerySet | None:
    category = setting_value("category") if texts else None
    # What can't be a category of this shop is one that it has no longer.
    values = category.parsed(sorted(set(texts))) if category is not None else []
    if category is None or not values:
        return None
    tree = CategoryTree.of(category)
    return category.select(get_catalogue().all_products(), **{"in": tree.below(values) if tree else values})
