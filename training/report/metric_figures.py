"""One metric of one model, as a report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METRICS = {
    ("look_alike", "ndcg_at_10"): "Look-alike nDCG@10",
    ("look_alike", "mean_average_precision"): "Look-alike mAP",
    ("look_alike", "recall_at_1"): "Look-alike Recall@1",
    ("retrieval", "recall_at_1"): "Recall@1",
    ("retrieval", "recall_at_5"): "Recall@5",
    ("retrieval", "recall_at_10"): "Recall@10",
    ("retrieval", "map_at_r"): "MAP@R",
    ("retrieval", "mean_average_precision"): "mAP",
    ("retrieval", "ndcg_at_10"): "nDCG@10",
    ("triplets", "accuracy"): "Triplet accuracy",
}


@dataclass(frozen=True)
class Figure:
    """One metric of one model.

    Attributes:
        value: the metric.
        low, high: its 95 % interval; the value itself where none was measured.
        of: names what it was measured on; figures of different sets can't be compared.
    """

    value: float
    low: float
    high: float
    of: tuple[Any, ...]

    @property
    def has_interval(self) -> bool:
        return self.low < self.high

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})" if self.has_interval else f"{self.value:.3f}"

    def overlaps(self, other: Figure) -> bool:
        """Whether the intervals share a point."""
        return self.low <= other.high and other.low <= self.high


def figure(evaluation: Mapping[str, Any], metric: tuple[str, str]) -> Figure | None:
    """A metric of an evaluation, or None where it was not measured."""
    part = evaluation.get(metric[0]) or {}
    value = part.get(metric[1])
    if not isinstance(value, int | float):
        return None
    low, high = (part.get("intervals") or {}).get(metric[1]) or (value, value)
    return Figure(value, low, high, (part.get("set"), part.get("min_relevance")))


def measured(evaluations: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The metrics that at least one evaluation has."""
    return [metric for metric in METRICS if any(figure(evaluation, metric) for evaluation in evaluations.values())]
