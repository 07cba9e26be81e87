"""The categories of the shop as choices: the values of the ``CATEGORY`` path with names that people know."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef
from django.db.models.constants import LOOKUP_SEP

from .field_paths import setting_path, unsliced
from .shop import get_catalogue


def category_choices(*, with_hidden: bool, most: int, separator: str) -> list[tuple[str, str]]:
    """Value and label of the categories that products have, by label; empty without the ``CATEGORY`` setting.

    Where the path ends at a model, its rows give the names, with the names of their parents before them if the model
    has a foreign key to itself; one statement, and one more for each level of parents. Each category is looked up among
    the products, not each product. Only where products hold the value in a column of their own, which need not have an
    index, all of them have to be read. Labels that several values share get the value behind them.

    Args:
        with_hidden: also of products that the shop does not show, and categories that their manager leaves out.
        most: choices at most; which ones are left out is not said.
        separator: between the names of parent and child.
    """
    path = setting_path("category")
    if path is None:
        return []
    catalogue = get_catalogue()
    products = unsliced(catalogue.all_products() if with_hidden else catalogue.visible_products()).order_by()
    model, field = path.field.model, path.field
    if issubclass(catalogue.product_model, model):
        values = products.filter(**{f"{path.path}__isnull": False}).values_list(path.path, flat=True)
        labels = {value: _label(field, value) for value in values.distinct()[:most]}
    else:
        rows = (model._base_manager if with_hidden else model._default_manager).order_by()
        used = list(rows.filter(Exists(products.filter(**{path.path: OuterRef(field.attname)})))[:most])
        # The path ends at the category itself, not at a text of it.
        if field.primary_key or path.path.split(LOOKUP_SEP)[-1] != field.name:
            labels = {getattr(row, field.attname): separator.join(names) for row, names in _trails(rows, used)}
        else:
            labels = {value: _label(field, value) for row in used if (value := getattr(row, field.attname)) is not None}
    choices = [(str(value), label) for value, label in labels.items() if str(value)]
    shared = Counter(label for _value, label in choices)
    choices = [(value, f"{label} ({value})" if shared[label] > 1 else label) for value, label in choices]
    return sorted(choices, key=lambda choice: choice[1].casefold())


def _label(field: models.Field, value: Any) -> str:
    return str(dict(getattr(field, "flatchoices", ())).get(value, value))


def _trails(rows: models.QuerySet, used: list[models.Model]) -> list[tuple[models.Model, list[str]]]:
    """Each of these rows with its own name and those of the rows above it, the topmost first."""
    fields = rows.model._meta.concrete_fields
    parent = next((field.attname for field in fields if field.many_to_one and field.related_model is rows.model), None)
    if parent is None:
        return [(row, [str(row)]) for row in used]
    by_key = {row.pk: row for row in used}
    level = used
    while above := {getattr(row, parent) for row in level} - {None, *by_key}:
        level = list(rows.filter(pk__in=above))
        by_key |= {row.pk: row for row in level}
        if not level:
            break
    trails = []
    for row in used:
        passed: dict[Any, str] = {}
        upper: models.Model | None = row
        while upper is not None and upper.pk not in passed:
            passed[upper.pk] = str(upper)
            upper = by_key.get(getattr(upper, parent))
        trails.append((row, list(passed.values())[::-1]))
    return trails
