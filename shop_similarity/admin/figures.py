"""The figures of model versions, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from ..models import ModelVersion
from ..rollout.gate import Figure, measured

_TITLES = {
    "retrieval.mean_average_precision": (
        _("Mean average precision"),
        _("How far at the front the right products stand; 1 is the best."),
    ),
    "retrieval.recall_at_1": (_("Recall at 1"), _("How often the first product is a right one; 1 is always.")),
    "triplets.accuracy": (
        _("Triplet accuracy"),
        _("How often, of two products, the one that is alike is found nearer; 1 is always."),
    ),
}


@dataclass(frozen=True)
class FigureRow:
    """One figure of several versions, in their order; None where a version was not measured."""

    title: Any
    meaning: Any
    values: list[Figure | None]


def figure_rows(versions: Sequence[ModelVersion]) -> list[FigureRow]:
    """The figures that at least one of the versions was measured on."""
    found = [measured(version) for version in versions]
    rows = [
        FigureRow(title, meaning, [figures.get(name) for figures in found])
        for name, (title, meaning) in _TITLES.items()
    ]
    return [row for row in rows if any(row.values)]
