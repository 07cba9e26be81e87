"""System checks of what workers need, with ``check --database``: web processes need none of it.

========== ==========================================================================================
I002       the weights that find the objects of a shopper's photo are not here
========== ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse

from shop_similarity.conf import SettingsError, get_settings
from shop_similarity.training.networks.saliency.weights import FILE_NAME
from shop_similarity.training.versions.weights_cache import default_weights_cache


@checks.register("shop_similarity", checks.Tags.database)
def check_objects(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    if not databases:
        return []
    try:
        path = default_weights_cache() / FILE_NAME
        if not get_settings().visual_search_objects or path.is_file():
            return []
        reverse("shop_similarity:visual-search")
    # Not mounted, or other checks say what is wrong.
    except (NoReverseMatch, ImproperlyConfigured, SettingsError, OSError, ValueError):
        return []
    return [
        checks.Info(
            f"Search by photo takes a photo as a whole: the weights that find the objects on it are not at {path}.",
            hint="Run `manage.py fetch_u2net` on each machine with workers (docs/visual_search.md), or set "
            "VISUAL_SEARCH_OBJECTS to False.",
            id="shop_similarity.I002",
        )
    ]
