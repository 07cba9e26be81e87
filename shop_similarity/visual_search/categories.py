"""The categories that results can be filtered by."""

from __future__ import annotations

from django.core.cache import cache
from django.utils.translation import get_language

from ..catalogue import categories
from ..conf import get_settings

# A longer list helps nobody to choose.
_MOST = 500


def category_choices() -> list[tuple[str, str]]:
    """Value and label of every category of the products that may be shown, by label; empty without ``CATEGORY``.

    Categories that form a tree are named by their whole path. Kept in the cache for ``WIDGET_CACHE_SECONDS``.
    """
    settings = get_settings()
    key = f"shop_similarity:categories:{settings.category}:{get_language()}"
    choices = cache.get(key) if settings.widget_cache_seconds else None
    if choices is None:
        choices = categories.category_choices(with_hidden=False, most=_MOST, separator=" › ")
        if settings.widget_cache_seconds:
            cache.set(key, choices, settings.widget_cache_seconds)
    return choices
