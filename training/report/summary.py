"""What happened in a training run, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shop_similarity.training.report.contents import Report
from shop_similarity.training.report.verdicts import verdicts


def summary(report: Report) -> list[tuple[str, list[str]]]:
    """What was trained, on what, how long, and how good it is; only what is known is told.

    Returns:
        Sentences, each with the items that it announces, if any.
    """
    leaks = report.run.get("leaks")
    sentences = [
        _trained(report),
        *_data(report.run.get("data")),
        *(leaks if isinstance(leaks, list) else ()),
        _epochs(report),
    ]
    judgement = verdicts(report.evaluations, report.differences)
    if not judgement:
        judgement = [("It was not evaluated, so nothing is known of how it compares with other models.", [])]
    tested = verdicts(report.test_evaluations, report.test_differences)
    judgement += [(f"On the test set: {sentence}", clauses) for sentence, clauses in tested]
    return [*((sentence, []) for sentence in sentences if sentence), *judgement]


def _trained(report: Report) -> str:
    architecture = _find(report.run, "architecture")
    if architecture is None:
        return ""
    started = _find(report.run, "started_from") or _find(report.run, "fine_tune")
    loss = _find(report.run, "loss")
    seconds = _find(report.run, "seconds")
    if seconds is None:
        seconds = sum(epoch.get("seconds") or 0 for epoch in report.history) or None
    return (
        f"Trained: {architecture}"
        + (f", from {started}" if started else "")
        + (f", with the loss {loss}" if loss else "")
        + (f", in {duration(seconds)}" if seconds is not None else "")
        + "."
    )


def _data(data: Any) -> list[str]:
    if not isinstance(data, Mapping):
        return []
    sentences = []
    for split, word in (("train", "Trained on"), ("validation", "Validated on"), ("test", "Tested on")):
        counts = data.get(split)
        if not isinstance(counts, Mapping) or not isinstance(counts.get("triplets"), int):
            continue
        images = counts.get("images")
        sentences.append(
            f"{word} {counts['triplets']:,} triplets"
            + (f" of {images:,} photos" if isinstance(images, int) else "")
            + "."
        )
    return sentences


def _epochs(report: Report) -> str:
    if not report.history:
        return "No epoch was finished."
    first, last = report.history[0], report.history[-1]
    # Epoch 0 is the start, before any training.
    count = sum(record.get("epoch") != 0 for record in report.history)
    text = f"{count} epoch{'s' if count != 1 else ''}"
    for key, name in (("loss", "loss"), ("val_loss", "validation loss"), ("val_accuracy", "validation accuracy")):
        if isinstance(first.get(key), int | float) and isinstance(last.get(key), int | float):
            text += f", {name} from {first[key]:.4g} to {last[key]:.4g}"
    if report.best_epoch is not None:
        text += f"; the weights of epoch {report.best_epoch} were kept"
    return text + "."


def duration(seconds: float) -> str:
    """For example ``48 s``, ``12 min 5 s``, ``3 h 20 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.2g} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _find(run: Mapping[str, Any], key: str) -> Any:
    """A value of the run, or of a dictionary one level below."""
    if run.get(key) is not None and not isinstance(run[key], Mapping):
        return run[key]
    for part in run.values():
        if isinstance(part, Mapping) and part.get(key) is not None and not isinstance(part[key], Mapping):
            return part[key]
    return None
