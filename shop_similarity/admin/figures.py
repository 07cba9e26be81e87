"""The figures of model versions, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from ..gate import Figure, measured
from ..models import ModelVersion

TITLES = {
    "retrieval.mean_average_precision": _("Mean average precision"),
    "retrieval.recall_at_1": _("Recall at 1"),
    "triplets.accuracy": _("Triplet accuracy"),
}


@dataclass(frozen=True)
class FigureRow:
    """One figure of several versions, in their order; None where a version was not measured."""

    title: Any
    values: list[Figure | None]


def figure_rows(versions: Sequence[ModelVersion]) -> list[FigureRow]:
    """The figures that at least one of the versions was measured on."""
    found = [measured(version) for version in versions]
    rows = [FigureRow(title, [figures.get(name) for figures in found]) for name, title in TITLES.items()]
    return [row for row in rows if any(row.values)]
