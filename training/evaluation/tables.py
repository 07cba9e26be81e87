"""Evaluations as tables for people: one column per metric, an interval below every figure."""

from __future__ import annotations

from collections.abc import Sequence

from shop_similarity.intervals import FEWEST_GROUPS, Estimate
from shop_similarity.training.evaluation.comparison import Comparison
from shop_similarity.training.evaluation.results import LOOK_ALIKE_METRICS, RETRIEVAL_METRICS, RetrievalResult
from shop_similarity.training.evaluation.validation import Evaluation

Rows = Sequence[tuple[str, Evaluation]]

TITLES = {
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "map_at_r": "MAP@R",
    "mean_average_precision": "mAP",
    "ndcg_at_10": "nDCG@10",
    "accuracy": "triplets",
}


def tables(comparison: Comparison) -> str:
    """Everything that was measured, and everything's difference to the reference."""
    rows = comparison.rows()
    texts = []
    if rows and comparison.validation.look_alike:
        texts.append(_look_alike(rows))
    if rows and comparison.validation.retrieval:
        texts.append(_retrieval(rows))
    if rows and comparison.validation.triplets:
        texts.append(_triplets(rows))
    if comparison.models:
        texts.append(_codes(list(comparison.models.items())))
    all_differences = [(title, comparison.difference(evaluation)) for title, evaluation in rows]
    differences = [(title, difference) for title, difference in all_differences if difference]
    if differences and comparison.reference is not None:
        texts.append(_differences(comparison.reference, differences))
    return "\n\n".join(texts)


def _look_alike(evaluations: Rows) -> str:
    results = [(name, each.look_alike) for name, each in evaluations if each.look_alike is not None]
    first = results[0][1]
    rows = [["", *(TITLES[name] for name in LOOK_ALIKE_METRICS)]]
    for name, result in results:
        rows += _with_intervals(name, [result.estimate(metric) for metric in LOOK_ALIKE_METRICS])
    return (
        f"Look-alikes: {first.queries:,} queries ({first.exact_queries:,} with exact hits: mAP, R@1), "
        f"{first.gallery:,} photos, {_groups(first)}\n{_grid(rows)}"
    )


def _groups(result: RetrievalResult) -> str:
    count = len(set(result.groups.tolist()))
    return f"intervals over {count:,} groups" + (", too few to trust" if count < FEWEST_GROUPS else "")


def _retrieval(evaluations: Rows) -> str:
    results = [(name, each.retrieval) for name, each in evaluations if each.retrieval is not None]
    first = results[0][1]
    rows = [["", *(TITLES[name] for name in RETRIEVAL_METRICS)]]
    for name, result in results:
        rows += _with_intervals(name, [result.estimate(metric) for metric in RETRIEVAL_METRICS])
    hits = "exact and partial hits" if first.min_relevance == 1 else "exact hits only"
    return f"Retrieval: {first.queries:,} queries, {first.gallery:,} photos, {hits}, {_groups(first)}\n{_grid(rows)}"


def _triplets(evaluations: Rows) -> str:
    results = [(name, each.triplets) for name, each in evaluations if each.triplets is not None]
    first = results[0][1]
    block = f"{len(first.block.accuracies)} x {first.block.size}"
    rows = [["", "all", block]]
    for name, result in results:
        value, interval = _with_intervals(name, [result.estimate()])
        rows += [[*value, _number(result.block.mean)], [*interval, f"±{_number(result.block.spread)}"]]
    count = len(first.correct)
    text = f"Triplet accuracy: {count:,} triplets, intervals over {len(set(first.groups.tolist())):,} groups\n"
    text += _grid(rows)
    by_type = [(name, result.to_dict()) for name, result in results]
    for key, title in (("by_positive_type", "by positive"), ("by_negative_type", "by negative")):
        types = by_type[0][1][key]
        if not types:
            continue
        rows = [[title, *types], ["triplets", *(f"{figure['triplets']:,}" for figure in types.values())]]
        for name, figures in by_type:
            estimates = [Estimate(figure["accuracy"], *figure["interval"]) for figure in figures[key].values()]
            rows += _with_intervals(name, estimates)
        text += f"\n\n{_grid(rows)}"
    return text


def _codes(evaluations: Rows) -> str:
    results = [(name, each.codes) for name, each in evaluations if each.codes is not None]
    first = results[0][1]
    rows = [["candidates", *(f"{count:,}" for count in first.recall)]]
    for name, codes in results:
        rows += _with_intervals(
            name, [Estimate(value, *codes.intervals[count]) for count, value in codes.recall.items()], digits=4
        )
    return (
        f"Search by codes: share of the exact first {first.k} that it finds, "
        f"{first.queries:,} searches in {first.gallery:,} photos\n{_grid(rows)}"
    )


def _differences(reference: str, differences: Sequence[tuple[str, dict[str, dict[str, Estimate]]]]) -> str:
    texts = []
    for part in differences[0][1]:
        metrics = list(differences[0][1][part])
        rows = [[part.replace("_", "-"), *(TITLES[name] for name in metrics)]]
        for name, difference in differences:
            estimates = [difference[part][metric] for metric in metrics]
            stars = ["*" if estimate.low > 0 or estimate.high < 0 else " " for estimate in estimates]
            cells = [f"{_signed(value.value)}{star}" for value, star in zip(estimates, stars, strict=True)]
            rows += [[name, *cells], ["", *(f"{_signed(value.low)}..{_signed(value.high)} " for value in estimates)]]
        texts.append(_grid(rows))
    return f"Difference to {reference}, paired (* where the interval excludes 0)\n" + "\n".join(texts)


def _with_intervals(name: str, estimates: Sequence[Estimate], digits: int = 3) -> list[list[str]]:
    return [
        [name, *(_number(estimate.value, digits) for estimate in estimates)],
        ["", *(f"{_number(estimate.low, digits)}-{_number(estimate.high, digits)}" for estimate in estimates)],
    ]


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("+0.", "+.").replace("-0.", "-.")


def _grid(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = row
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)
