"""The walks of docs/architecture.md name functions that are there."""

from __future__ import annotations

import importlib
import operator
import re
from pathlib import Path

import pytest
from django.conf import settings

_STEP = re.compile(r"`([a-z_/]+)\.(\w+)`")


def _steps() -> list[tuple[str, str]]:
    text = Path(settings.BASE_DIR, "docs", "architecture.md").read_text(encoding="utf-8")
    walks = text[text.index("## Five walks") : text.index("## Why an outbox")]
    return [(f"shop_similarity.{place.replace('/', '.')}", name) for place, name in _STEP.findall(walks)]


def test_there_are_five_walks():
    assert len(_steps()) > 50


@pytest.mark.parametrize(("module", "name"), sorted(set(_steps())))
def test_step_is_there(module: str, name: str):
    assert callable(operator.attrgetter(name)(importlib.import_module(module)))
