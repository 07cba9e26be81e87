"""The categories of the shop as choices: the values of the ``CATEGORY`` path with names that people know."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.constants import LOOKUP_SEP

from ..catalogue import get_catalogue
from ..conf import get_settings

MOST = 2_000


def category_choices() -> list[tuple[str, str]]:
    """``(value, label)`` of the categories that products have, by label; empty without the ``CATEGORY`` setting.

    Where the path ends at a model, its rows give the names, with the names of their parents before them if the model
    has a foreign key to itself. Labels that several values share get the value behind them. Two statements, one more
    for the names of parents. At most 2,000.
    """
    path = get_settings().category
    if path is None:
        return []
    catalogue = get_catalogue()
    values = list(
        catalogue.all_products()
        .order_by()
        .filter(**{f"{path}__isnull": False})
        .values_list(path, flat=True)
        .distinct()[:MOST]
    )
    labels = _labels(path, values)
    named = [(str(value), labels.get(value, str(value))) for value in values if str(value)]
    shared = {label for _value, label in named}
    if len(shared) < len(named):
        counts: dict[str, int] = {}
        for _value, label in named:
            counts[label] = counts.get(label, 0) + 1
        named = [(value, f"{label} ({value})" if counts[label] > 1 else label) for value, label in named]
    return sorted(named, key=lambda choice: choice[1].casefold())


def _labels(path: str, values: list) -> dict[Any, str]:
    model: type[models.Model] | None = get_catalogue().product_model
    field = None
    for part in path.split(LOOKUP_SEP):
        try:
            field = model._meta.get_field(part) if model is not None else None
        except FieldDoesNotExist:
            field = None
        model = field.related_model if field is not None and field.is_relation else None
    if model is None:
        return {value: _choice_label(field, value) for value in values}
    key = getattr(field, "target_field", model._meta.pk).attname
    parent = next(
        (item for item in model._meta.fields if item.is_relation and item.related_model is model and not item.unique),
        None,
    )
    if parent is None:
        rows = model._base_manager.filter(**{f"{key}__in": values})
        return {getattr(row, key): str(row) for row in rows}
    # A tree of categories is small beside the catalogue, and a name without its path may mean several of them.
    rows = {row.pk: row for row in model._base_manager.all()[: 10 * MOST]}
    return {getattr(row, key): " / ".join(_trail(row, rows, parent.attname)) for row in rows.values()}


def _trail(row: models.Model, rows: dict[Any, models.Model], parent: str) -> list[str]:
    names: list[str] = []
    passed = set()
    while row is not None and row.pk not in passed:
        passed.add(row.pk)
        names.insert(0, str(row))
        row = rows.get(getattr(row, parent))
    return names


def _choice_label(field: models.Field | None, value: Any) -> str:
    return str(dict(getattr(field, "flatchoices", ())).get(value, value))
