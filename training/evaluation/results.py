"""What a model is worth in retrieval and on triplets.

Embeddings are measured as the database keeps them, in half precision (:func:`as_stored`). Every result is a frozen
dataclass whose ``to_dict()`` is plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shop_similarity.intervals import (
    FEWEST_GROUPS,
    MOST_GROUPS,
    Estimate,
    GroupSums,
    estimate_difference,
    estimate_mean,
)
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.evaluation.fingerprints import fingerprint
from shop_similarity.training.evaluation.metrics import (
    Retrieval,
    ValidationBlock,
    correct_triplets,
    rank,
    validation_block,
)
from shop_similarity.training.evaluation.retrieval_set import EXACT, PARTIAL, RetrievalSet
from shop_similarity.training.files import file_sha256
from shop_similarity.training.triplets.table import Triplets

# From embeddings (n, d) as they are stored to those that a search asks with.
Asked = Callable[[np.ndarray], np.ndarray]

RETRIEVAL_METRICS = ("recall_at_1", "recall_at_5", "recall_at_10", "map_at_r", "mean_average_precision", "ndcg_at_10")
LOOK_ALIKE_METRICS = ("ndcg_at_10", "mean_average_precision", "recall_at_1")
QUERIES_AT_ONCE = 256
# What the gate compares, and so is kept by group.
_KEPT = ("ndcg_at_10", "mean_average_precision", "recall_at_1")


class EvaluationError(TrainingError):
    """Nothing can be measured; the text says why."""


def as_stored(vectors: np.ndarray) -> np.ndarray:
    """Embeddings as the database gives them back: length 1, rounded to half precision.

    Args:
        vectors: ``(n, d)``.

    Returns:
        ``(n, d)`` ``float32``; lengths are off 1 by what the rounding costs.

    Raises:
        EvaluationError: if one is zero or not finite.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = int((~np.isfinite(lengths) | (lengths == 0)).sum())
    if bad:
        raise EvaluationError(
            f"{bad} of {len(vectors)} embeddings are zero or not finite, so nothing can be similar to them. "
            "The model's weights are damaged or its training has diverged: store them again, or train with a lower "
            "--learning-rate."
        )
    return (vectors / lengths).astype(np.float16).astype(np.float32)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``(m, n)`` ``float64`` cosine similarities of ``(m, d)`` and ``(n, d)`` embeddings :func:`as_stored`.

    Half-precision numbers are whole multiples of 2^-24, so the products of two embeddings of length 1 add up exactly in
    double precision, in whatever order a machine's BLAS adds: photos that are the same have the same cosine.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    lengths = [np.sqrt(np.square(vectors).sum(axis=1)) for vectors in (first, second)]
    return first @ second.T / np.outer(*lengths)


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """Retrieval metrics of one model on one set.

    Attributes:
        set: the set's sha256.
        queries: how many queries were measured: those with something to find.
        gallery: rows of the gallery.
        min_relevance: what counted as a hit; nDCG takes every grade into account.
        values: by metric, ``(queries,)``; not a number where a query has nothing to find for that metric.
        groups: ``(queries,)``, which queries belong together when intervals are drawn
            (:meth:`shop_similarity.training.evaluation.retrieval_set.RetrievalSet.groups`).
    """

    set: str
    queries: int
    gallery: int
    min_relevance: int
    values: Mapping[str, np.ndarray]
    groups: np.ndarray

    def estimate(self, metric: str) -> Estimate:
        """Mean over queries and its 95 % interval, by drawing whole groups."""
        return estimate_mean(self.values[metric], self.groups)

    def difference(self, other: RetrievalResult) -> dict[str, Estimate]:
        """By how much this model is better than another, metric by metric, paired by query.

        Raises:
            ValueError: if they were measured on different queries.
        """
        if (self.set, self.min_relevance) != (other.set, other.min_relevance):
            raise ValueError("The two models must have been measured on the same set.")
        return {name: estimate_difference(self.values[name], other.values[name], self.groups) for name in self.values}

    @property
    def exact_queries(self) -> int:
        """How many queries have a hit to find; the others have photos of less relevance, which nDCG alone counts."""
        return int((~np.isnan(self.values["mean_average_precision"])).sum())

    def to_dict(self) -> dict[str, Any]:
        estimates = {name: self.estimate(name) for name in self.values}
        return {
            "set": self.set,
            "queries": self.queries,
            **({"exact_queries": self.exact_queries} if self.exact_queries < self.queries else {}),
            "gallery": self.gallery,
            "groups": len(np.unique(self.groups)),
            "min_relevance": self.min_relevance,
            **{name: rounded(estimate.value) for name, estimate in estimates.items()},
            "intervals": {name: rounded_interval(estimate) for name, estimate in estimates.items()},
            "by_group": {name: by_group(self.values[name], self.groups) for name in _KEPT if name in self.values},
        }


def evaluate_retrieval(
    vectors: np.ndarray, photos: RetrievalSet, min_relevance: int = PARTIAL, asked: Asked | None = None
) -> RetrievalResult:
    """Search the gallery with every query by exact cosine.

    Args:
        vectors: ``(len(photos.paths), d)`` embeddings of the set's photos.
        photos: the set. What is the query itself is left out of its results.
        min_relevance: 1 counts partial hits, 2 exact ones only.
        asked: from embeddings to what the gallery is searched with; the same by default.

    Raises:
        EvaluationError: if no query has anything of that relevance to find.
    """
    if not photos.answerable(min_relevance):
        raise EvaluationError(
            f"No query of {photos.folder} has a photo of relevance {min_relevance} or more to find, besides itself. "
            + (
                "Count partial hits too, with --min-relevance 1."
                if min_relevance > PARTIAL
                else "Name photos of the gallery for its queries in qrels.csv."
            )
        )

    def figures(ranking: Retrieval) -> Mapping[str, np.ndarray]:
        return {
            "recall_at_1": ranking.recalled_at(1),
            "recall_at_5": ranking.recalled_at(5),
            "recall_at_10": ranking.recalled_at(10),
            "map_at_r": ranking.average_precisions_at_r(),
            "mean_average_precision": ranking.average_precisions(),
            "ndcg_at_10": ranking.ndcgs_at(10),
        }

    return _evaluate(vectors, photos, min_relevance, min_relevance, figures, asked)


def evaluate_look_alikes(vectors: np.ndarray, photos: RetrievalSet) -> RetrievalResult:
    """Look for other products that look like each query's.

    nDCG of the first ten takes both grades into account, for every query that has either to find. Mean average
    precision and R@1 count exact hits alone (the same category and colour), for the queries that have one.

    Args:
        vectors: ``(len(photos.paths), d)`` embeddings of the set's photos.
        photos: a look-alike set.
    """

    def figures(ranking: Retrieval) -> Mapping[str, np.ndarray]:
        found = {name: np.full(len(ranking.queries), np.nan) for name in LOOK_ALIKE_METRICS}
        found["ndcg_at_10"] = ranking.ndcgs_at(10)
        exact = (ranking.grades >= EXACT).any(axis=1)
        if exact.any():
            hits = ranking.of_relevance(EXACT)
            found["mean_average_precision"][exact] = hits.average_precisions()
            found["recall_at_1"][exact] = hits.recalled_at(1)
        return found

    return _evaluate(vectors, photos, PARTIAL, EXACT, figures)


def _evaluate(
    vectors: np.ndarray,
    photos: RetrievalSet,
    asked_from: int,
    hit_from: int,
    figures: Callable[[Retrieval], Mapping[str, np.ndarray]],
    asked: Asked | None = None,
) -> RetrievalResult:
    """Rank the gallery for all queries that have something of relevance ``asked_from`` to find, some at a time."""
    vectors = as_stored(vectors)
    queries = np.flatnonzero(((photos.relevance >= asked_from) & ~photos.left_out).any(axis=1))
    gallery = vectors[photos.gallery]
    parts: list[Mapping[str, np.ndarray]] = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        part = queries[start : start + QUERIES_AT_ONCE]
        searched = vectors[photos.queries[part]]
        similarities = cosines(as_stored(asked(searched)) if asked else searched, gallery)
        parts.append(figures(rank(similarities, photos.relevance[part], photos.left_out[part], asked_from)))
    values = {name: np.concatenate([part[name].astype(np.float64) for part in parts]) for name in parts[0]}
    groups = photos.groups(hit_from)[queries]
    return RetrievalResult(photos.sha256, len(queries), len(photos.gallery), hit_from, values, groups)


@dataclass(frozen=True, eq=False)
class TripletResult:
    """Triplet accuracy of one model on one set.

    Attributes:
        set: the set's sha256.
        correct: ``(m,)`` boolean, see :func:`shop_similarity.training.evaluation.metrics.correct_triplets`.
        groups: ``(m,)``, which triplets belong together when intervals are drawn.
        positive_type: ``(m,)`` strings, "" where not known.
        negative_type: ``(m,)`` strings, "" where not known.
        block: the article's validation block.
    """

    set: str
    correct: np.ndarray
    groups: np.ndarray
    positive_type: np.ndarray
    negative_type: np.ndarray
    block: ValidationBlock

    def estimate(self, chosen: np.ndarray | slice = slice(None)) -> Estimate:
        """Accuracy and its 95 % interval."""
        return estimate_mean(self.correct[chosen], self.groups[chosen])

    def difference(self, other: TripletResult) -> Estimate:
        """By how much this model is better than another, paired by triplet.

        Raises:
            ValueError: if they were measured on different triplets.
        """
        if self.set != other.set:
            raise ValueError("The two models must have been measured on the same set.")
        return estimate_difference(self.correct, other.correct, self.groups)

    def to_dict(self) -> dict[str, Any]:
        estimate = self.estimate()
        return {
            "set": self.set,
            "triplets": len(self.correct),
            "groups": len(np.unique(self.groups)),
            "accuracy": rounded(estimate.value),
            "intervals": {"accuracy": rounded_interval(estimate)},
            "by_group": {"accuracy": by_group(self.correct, self.groups)},
            "by_positive_type": self._by(self.positive_type),
            "by_negative_type": self._by(self.negative_type),
            "validation_block": {
                "mean": rounded(self.block.mean),
                "spread": rounded(self.block.spread),
                "draws": [rounded(value) for value in self.block.accuracies],
                "size": self.block.size,
            },
        }

    def _by(self, types: np.ndarray) -> dict[str, Any]:
        figures = {}
        for name in sorted(set(types.tolist()) - {""}):
            estimate = self.estimate(types == name)
            figures[name] = {
                "triplets": int((types == name).sum()),
                "accuracy": rounded(estimate.value),
                "interval": rounded_interval(estimate),
            }
        return figures


def evaluate_triplets(vectors: np.ndarray, triplets: Triplets, set_sha256: str | None = None) -> TripletResult:
    """How many triplets a model puts in the right order.

    Args:
        vectors: ``(len(triplets.images), d)`` embeddings of the triplets' photos.
        triplets: the triplets. Intervals are drawn over photos that positives link to each other, or over query
            photos where nearly all are linked.
        set_sha256: :func:`triplets_sha256`, if it is known already.

    Raises:
        EvaluationError: if there is no triplet.
    """
    if not len(triplets.rows):
        raise EvaluationError("There is no triplet to measure: give a CSV that holds some.")
    queries = triplets.rows[:, 0]
    groups = triplets.groups()[queries]
    if len(np.unique(groups)) < FEWEST_GROUPS:
        groups = queries
    correct = correct_triplets(as_stored(vectors), triplets.rows)
    return TripletResult(
        set_sha256 or triplets_sha256(triplets),
        correct,
        groups,
        np.asarray(triplets.positive_type),
        np.asarray(triplets.negative_type),
        validation_block(correct),
    )


def triplets_sha256(triplets: Triplets) -> str:
    """Names a set of triplets by its rows and the bytes of its photos, wherever the folder lies."""
    photos = [file_sha256(path) for path in triplets.paths()]
    return fingerprint([[photos[place] for place in row] for row in triplets.rows.tolist()])


def by_group(values: np.ndarray, groups: np.ndarray) -> dict[str, list[float]]:
    """Values summed up by group, as :class:`shop_similarity.intervals.GroupSums` takes them, for later comparisons.

    Groups beyond a number are put together, so that what is kept of a measurement stays small.
    """
    found = GroupSums.of(values, groups, MOST_GROUPS)
    return {"sums": [rounded(value) for value in found.sums], "counts": found.counts.astype(int).tolist()}


def rounded(value: float) -> float:
    return round(float(value), 4)


def rounded_interval(estimate: Estimate) -> list[float]:
    return [rounded(estimate.low), rounded(estimate.high)]
