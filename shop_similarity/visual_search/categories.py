"""The categories that results can be filtered by, named so that a shopper can tell them apart."""

from __future__ import annotations

from typing import Any

from django.core.cache import cache
from django.db import models
from django.utils.translation import get_language

from ..catalogue import get_catalogue
from ..catalogue.field_paths import FieldPath, setting_path
from ..conf import get_settings

# A longer list helps nobody to choose.
_MOST = 500


def category_choices() -> list[tuple[str, str]]:
    """Value and label of every category of the products that may be shown, by label; empty without ``CATEGORY``.

    Categories that form a tree are named by their whole path. Kept in the cache for ``WIDGET_CACHE_SECONDS``, since the
    products have to be looked through for it.
    """
    path = setting_path("category")
    if path is None:
        return []
    seconds = get_settings().widget_cache_seconds
    key = f"shop_similarity:categories:{path.path}:{get_language()}"
    choices = cache.get(key) if seconds else None
    if choices is None:
        choices = _choices(path)
        if seconds:
            cache.set(key, choices, seconds)
    return choices


def _choices(path: FieldPath) -> list[tuple[str, str]]:
    values = get_catalogue().visible_products().order_by().values_list(path.path, flat=True)
    model = path.field.model
    if not path.field.primary_key or issubclass(get_catalogue().product_model, model):
        found = values.distinct()[:_MOST]
        return sorted(((str(value), str(value)) for value in found if value not in (None, "")), key=_by_label)
    used = set(model._default_manager.filter(pk__in=values.values(path.path)).values_list("pk", flat=True)[:_MOST])
    parent = _parent_field(model)
    rows = model._default_manager.all() if parent else model._default_manager.filter(pk__in=used)
    by_key = {row.pk: row for row in rows}
    return sorted(((str(pk), _path_of(by_key[pk], parent, by_key)) for pk in used if pk in by_key), key=_by_label)


def _by_label(choice: tuple[str, str]) -> str:
    return choice[1].casefold()


def _parent_field(model: type[models.Model]) -> str | None:
    """Attribute of a category that holds the key of the one above it."""
    for field in model._meta.concrete_fields:
        if field.many_to_one and field.related_model is model:
            return field.attname
    return None


def _path_of(category: Any, parent: str | None, by_key: dict[Any, Any]) -> str:
    names: list[str] = []
    seen: set[Any] = set()
    while category is not None and category.pk not in seen:
        seen.add(category.pk)
        names.insert(0, str(category))
        category = by_key.get(getattr(category, parent)) if parent else None
    return " › ".join(names)
