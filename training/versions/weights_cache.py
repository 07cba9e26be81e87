"""Where converted ImageNet weights are kept."""

from __future__ import annotations

import os
from pathlib import Path

from shop_similarity.conf import get_settings
from shop_similarity.models import weights_storage


def default_weights_cache() -> Path:
    """Folder of converted ImageNet weights: the workers' cache, the weights storage if it is local, or the user's."""
    if cache := get_settings().weights_cache:
        return Path(cache)
    try:
        return Path(weights_storage().path("pretrained"))
    except NotImplementedError:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shop-similarity"
