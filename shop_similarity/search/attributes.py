"""What attributes such as brand and material do to a list: the same only, others only, or worth something beside the
picture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef, Q, QuerySet

from ..catalogue import get_catalogue
from ..catalogue.attributes import own_values, products_differing, products_sharing


def restricted(
    allowed: QuerySet, products: Sequence[models.Model], same: Collection[str], other: Collection[str]
) -> QuerySet:
    """Those of the products that share the attributes ``same`` with ``products`` and differ from them in ``other``.

    Where those have no value of an attribute, nothing is the same as it, and everything is another.
    """
    for name in same:
        allowed = products_sharing(name, own_values(name, products), allowed)
    for name in other:
        allowed = products_differing(name, own_values(name, products), allowed)
    return allowed


@dataclass(frozen=True)
class AttributeWeights:
    """What it is worth in the ranking to share attributes with the products that were asked with.

    Attributes:
        weights: by the name of the attribute, -1 to 1.
        values: what those products have, by the name of the attribute; none without a value.
    """

    weights: Mapping[str, float]
    values: Mapping[str, list[Any]]

    @classmethod
    def of(cls, weights: Mapping[str, float], products: Sequence[models.Model]) -> AttributeWeights:
        values = {name: own_values(name, products) for name in weights}
        return cls(weights, {name: own for name, own in values.items() if own})

    def boosts(self, keys: Collection[Any]) -> dict[Any, float]:
        """What is added to the similarity of products, by key; one statement for each attribute."""
        found: dict[Any, float] = {}
        for name, values in self.values.items():
            products = get_catalogue().all_products().order_by().filter(pk__in=list(keys))
            for key in products_sharing(name, values, products).values_list("pk", flat=True):
                found[key] = found.get(key, 0.0) + self.weights[name]
        return found

    def lifted(self) -> QuerySet | None:
        """The products that may rise from further down; None where none can."""
        names = [name for name in self.values if self.weights[name] > 0]
        products = get_catalogue().all_products()
        return _any_of([products_sharing(name, self.values[name], products) for name in names])


def any_of(first: QuerySet | None, second: QuerySet | None) -> QuerySet | None:
    """The products that are in one of two querysets, each of which may be None for no product."""
    return _any_of([queryset for queryset in (first, second) if queryset is not None])


def _any_of(querysets: list[QuerySet]) -> QuerySet | None:
    if len(querysets) < 2:
        return next(iter(querysets), None)
    # Looked up by the key of each product that is asked for: IN would hold all of both.
    found = reduce(or_, (Q(Exists(queryset.order_by().filter(pk=OuterRef("pk")))) for queryset in querysets))
    return get_catalogue().all_products().filter(found)
