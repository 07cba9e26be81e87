"""What a report on a training run is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.triplets.table import Triplets


@dataclass(frozen=True, eq=False)
class Report:
    """A training run, as far as it is known: every part but the title may be missing.

    Attributes:
        title: the heading.
        run: how it was started, plain JSON. Dictionaries become tables of their own. The summary makes use of
            ``architecture``, ``loss``, ``started_from`` and ``seconds``, here or one level below, and of ``data``:
            ``{"train": {"triplets": ..., "images": ...}, "validation": {...}}``.
        history: one dictionary per epoch, with any of ``epoch``, ``loss``, ``accuracy``, ``val_loss``,
            ``val_accuracy``, ``recall_at_1``, ``mean_average_precision``, ``learning_rate``, ``seconds``,
            ``images_per_second``.
        evaluations: by name, what :meth:`shop_similarity.training.evaluation.validation.Evaluation.to_dict` gives. The
            first is the trained model's, the others are what it is compared with.
        differences: by name of what it is compared with, by part and metric: how much better the trained model is, as
            (value, low, high) paired over queries or triplets
            (:meth:`shop_similarity.training.evaluation.validation.Evaluation.difference`).
        test_evaluations, test_differences: the same of a test set, which nothing was chosen by.
        best_epoch: the epoch whose weights were kept.
        triplets: validation triplets.
        triplet_embeddings: ``(len(triplets.images), d)``, the trained model's.
        retrieval: a retrieval set.
        retrieval_embeddings: ``(len(retrieval.paths), d)``, the trained model's.
        look_alike: a look-alike set.
        look_alike_embeddings: ``(len(look_alike.paths), d)``, the trained model's.

    Raises:
        ValueError: embeddings don't fit their photos.
    """

    title: str
    run: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    differences: Mapping[str, Mapping[tuple[str, str], Sequence[float]]] = field(default_factory=dict)
    test_evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    test_differences: Mapping[str, Mapping[tuple[str, str], Sequence[float]]] = field(default_factory=dict)
    best_epoch: int | None = None
    triplets: Triplets | None = None
    triplet_embeddings: np.ndarray | None = None
    retrieval: RetrievalSet | None = None
    retrieval_embeddings: np.ndarray | None = None
    look_alike: RetrievalSet | None = None
    look_alike_embeddings: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, photos, embeddings in (
            ("triplet", self.triplets.images if self.triplets else None, self.triplet_embeddings),
            ("retrieval", self.retrieval.paths if self.retrieval else None, self.retrieval_embeddings),
            ("look_alike", self.look_alike.paths if self.look_alike else None, self.look_alike_embeddings),
        ):
            if embeddings is not None and (photos is None or len(photos) != len(embeddings)):
                raise ValueError(f"{name}_embeddings must hold one row for each photo of the {name} set.")

    @classmethod
    def of_folder(cls, folder: Path, title: str | None = None, **parts: Any) -> Report:
        """The report of a run's folder: its ``run.json``, ``history.jsonl``, ``evaluation.json`` and ``test.json``.

        The last two may be missing. They are what
        :meth:`shop_similarity.training.evaluation.comparison.Comparison.to_dict` gives; the first of them may hold
        evaluations by name instead.

        Args:
            folder: of the run.
            title: the folder's name by default.
            parts: attributes that the files don't hold, or that replace what they hold.

        Raises:
            ValueError: there is no run in the folder, or a file is damaged.
        """
        folder = Path(folder)
        run = _json(folder / "run.json")
        if run is None:
            raise ValueError(f"There is no training run in {folder}: it has no run.json. Name the folder of a run.")
        known: dict[str, Any] = {"run": run, "history": _json_lines(folder / "history.jsonl")}
        evaluation = _json(folder / "evaluation.json") or {}
        if "models" in evaluation:
            known["evaluations"], known["differences"] = from_comparison(evaluation)
        else:
            known["evaluations"] = evaluation
        if test := _json(folder / "test.json"):
            known["test_evaluations"], known["test_differences"] = from_comparison(test)
        return cls(title or f"Training run {folder.name}", **known | parts)


def from_comparison(
    comparison: Mapping[str, Any], trained: str | None = None
) -> tuple[dict[str, Mapping[str, Any]], dict[str, dict[tuple[str, str], tuple[float, float, float]]]]:
    """``evaluations`` and ``differences`` of what
    :meth:`shop_similarity.training.evaluation.comparison.Comparison.to_dict` gives.

    Args:
        comparison: models and baselines measured in one run.
        trained: name of the trained model; by default the first of the models.

    Raises:
        ValueError: no model of that name was measured.
    """
    models, baselines = comparison["models"], comparison.get("baselines", {})
    trained = next(iter(models), None) if trained is None else trained
    if trained is None or trained not in models:
        raise ValueError(f"{trained} was not measured; there are {', '.join(models) or 'no models'}.")
    evaluations = {trained: models[trained]} | dict(models) | dict(baselines)
    reference = comparison.get("reference")
    differences: dict[str, dict[tuple[str, str], tuple[float, float, float]]] = {}
    for name, evaluation in evaluations.items():
        # Differences are measured against the reference: they say something of the trained model where it is one side.
        for part, of_part in evaluation.get("difference", {}).items():
            for key, difference in of_part.items():
                value, (low, high) = difference["value"], difference["interval"]
                if reference == trained:
                    differences.setdefault(name, {})[part, key] = (-value, -high, -low)
                elif name == trained and reference is not None:
                    differences.setdefault(reference, {})[part, key] = (value, low, high)
    return evaluations, differences


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object.")
    return value


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    epochs: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            # A run that was killed while it wrote leaves half a line at the end.
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}, can't be read as JSON: {error}.") from error
        # A resumed run may have written an epoch again: the later one counts.
        epochs[values.get("epoch", number)] = values
    return list(epochs.values())
