"""What the docs tell people to import is there, and stays where they have been told."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from django.conf import settings

_IMPORT = re.compile(r"^\s*from (shop_similarity[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def _documented() -> set[tuple[str, str]]:
    pages = [Path(settings.BASE_DIR, "README.md"), *Path(settings.BASE_DIR, "docs").glob("*.md")]
    return {
        (module, name.strip())
        for page in pages
        for module, names in _IMPORT.findall(page.read_text(encoding="utf-8"))
        for name in names.split(",")
    }


# Named by the docs of earlier versions.
EARLIER = {
    ("shop_similarity.search_options", "Filters"),
    ("shop_similarity.search_options", "SearchOptions"),
    ("shop_similarity.search", "similar_products"),
    ("shop_similarity.rollout", "activate"),
    ("shop_similarity.feedback.experiments", "start"),
}


def test_the_docs_name_imports():
    assert len(_documented()) >= 10


@pytest.mark.parametrize(("module", "name"), sorted(_documented() | EARLIER))
def test_documented_import(module: str, name: str):
    if match := re.match(r"shop_similarity\.contrib\.(\w+)\.", module):
        # What needs the shop system itself is imported where that is installed, in the tests of its adapter.
        pytest.importorskip(match[1])
    if module.startswith("shop_similarity.training.networks."):
        pytest.importorskip("keras")
    assert hasattr(importlib.import_module(module), name)
