"""The folders that the command reads and writes, as far as they are not named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from shop_similarity.training.versions.weights_cache import default_weights_cache


def weights_cache(options: Mapping[str, Any]) -> Path:
    """Of converted ImageNet weights."""
    return options["weights_cache"] or default_weights_cache()


def features_folder(options: Mapping[str, Any]) -> Path:
    """Of what the frozen layers have computed."""
    return _cache(options) / "features"


def photos_folder(options: Mapping[str, Any]) -> Path:
    """Of the copies of the shop's photos."""
    return _cache(options) / "photos"


def run_folder(options: Mapping[str, Any]) -> Path:
    """Of a new run: the one that is named, or one by time and name."""
    if options["run"]:
        return options["run"]
    name = options["name"] or options["architecture"] or "mildnet"
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
    return default_weights_cache().parent / "runs" / stem


def _cache(options: Mapping[str, Any]) -> Path:
    return options["cache"] or default_weights_cache().parent / "cache"
