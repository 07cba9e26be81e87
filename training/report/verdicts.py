"""How a trained model stands against others, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shop_similarity.intervals import FEWEST_GROUPS
from shop_similarity.training.report.metric_figures import METRICS, Figure, figure

IN_WORDS = (
    ("look_alike", "ndcg_at_10"),
    ("look_alike", "mean_average_precision"),
    ("retrieval", "recall_at_1"),
    ("retrieval", "mean_average_precision"),
    ("triplets", "accuracy"),
)
"""The metrics that the summary speaks of, what leads first."""


def verdicts(
    evaluations: Mapping[str, Mapping[str, Any]],
    differences: Mapping[str, Mapping[tuple[str, str], Sequence[float]]] | None = None,
) -> list[tuple[str, list[str]]]:
    """For each metric of :data:`IN_WORDS` the first model's figure, and how it stands against each of the others.

    Where a paired difference is known it decides, for it is the sharper test; else whether the intervals overlap.
    """
    if not evaluations:
        return []
    (model, own), *others = evaluations.items()
    sentences = []
    for metric in IN_WORDS:
        mine = figure(own, metric)
        if mine is None:
            continue
        clauses = []
        for name, evaluation in others:
            theirs = figure(evaluation, metric)
            if theirs is not None:
                clauses.append(_clause(name, mine, theirs, (differences or {}).get(name, {}).get(metric)))
        sentences.append((f"{METRICS[metric]} of {model} is {mine}{':' if clauses else '.'}", clauses))
    if few := too_few_groups(own):
        sentences.append((few, []))
    return sentences


def too_few_groups(evaluation: Mapping[str, Any]) -> str:
    """A sentence on the sets whose intervals were drawn over too few groups, if there is one."""
    few = [
        f"{part.replace('_', '-')} {evaluation[part]['groups']}"
        for part in ("look_alike", "retrieval", "triplets")
        if (evaluation.get(part) or {}).get("groups", FEWEST_GROUPS) < FEWEST_GROUPS
    ]
    if not few:
        return ""
    return (
        f"Intervals drawn over fewer than {FEWEST_GROUPS} groups say little of how sure one can be ({', '.join(few)}): "
        "measure on more products."
    )


def _clause(name: str, mine: Figure, theirs: Figure, difference: Sequence[float] | None) -> str:
    if mine.of != theirs.of:
        return f"{name} was measured on another set and can't be compared"
    if mine.value == theirs.value:
        return f"equal to {name}"
    word = "better than" if mine.value > theirs.value else "worse than"
    if difference is not None:
        value, low, high = difference
        words = f"difference {value:+.3f}, {low:+.3f} to {high:+.3f}"
        sure = "" if low > 0 or high < 0 else ": may be chance"
        return f"{word} {name} ({theirs.value:.3f}; {words}{sure})"
    if not (mine.has_interval and theirs.has_interval):
        return f"{word} {name} ({theirs.value:.3f})"
    sure = "the intervals overlap, so this may be chance" if mine.overlaps(theirs) else "the intervals do not overlap"
    return f"{word} {name} ({theirs}; {sure})"
