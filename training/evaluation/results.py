"""What a model is worth: retrieval, triplets, and what the sign codes lose of it.

Embeddings are measured as the database keeps them, in half precision (:func:`as_stored`). Every result is a frozen
dataclass whose ``to_dict()`` is plain JSON; that of :class:`Evaluation` is what a model version keeps in
``metrics["evaluation"]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shop_similarity.training.evaluation.fingerprints import file_sha256, fingerprint
from shop_similarity.training.evaluation.metrics import (
    Estimate,
    ValidationBlock,
    correct_triplets,
    estimate_difference,
    estimate_mean,
    rank,
    validation_block,
)
from shop_similarity.training.evaluation.retrieval_set import EXACT, PARTIAL, RetrievalSet
from shop_similarity.training.triplets.table import Triplets

Embed = Callable[[Sequence[Path]], np.ndarray]
"""Photos in files to ``(n, d)`` embeddings, one row per path."""

RETRIEVAL_METRICS = ("recall_at_1", "recall_at_5", "recall_at_10", "map_at_r", "mean_average_precision", "ndcg_at_10")
CANDIDATES = (10, 50, 100, 200)
"""Candidates by code distance whose exact cosine is computed; 200 is the plugin's default."""

_QUERIES_AT_ONCE = 256
_CODE_QUERIES = 2_000
# With fewer groups than this, drawing groups says nothing about how sure one can be.
_FEWEST_GROUPS = 20


class EvaluationError(ValueError):
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
            "The model's weights are damaged or its training has diverged."
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
        values: of each metric of :data:`RETRIEVAL_METRICS`, ``(queries,)``.
    """

    set: str
    queries: int
    gallery: int
    min_relevance: int
    values: Mapping[str, np.ndarray]

    def estimate(self, metric: str) -> Estimate:
        """Mean over queries and its 95 % interval."""
        return estimate_mean(self.values[metric])

    def difference(self, other: RetrievalResult) -> dict[str, Estimate]:
        """By how much this model is better than another, metric by metric, paired by query.

        Raises:
            ValueError: if they were measured on different queries.
        """
        if (self.set, self.min_relevance) != (other.set, other.min_relevance):
            raise ValueError("The two models must have been measured on the same set.")
        return {name: estimate_difference(self.values[name], other.values[name]) for name in self.values}

    def to_dict(self) -> dict[str, Any]:
        estimates = {name: self.estimate(name) for name in self.values}
        return {
            "set": self.set,
            "queries": self.queries,
            "gallery": self.gallery,
            "min_relevance": self.min_relevance,
            **{name: _rounded(estimate.value) for name, estimate in estimates.items()},
            "intervals": {name: _interval(estimate) for name, estimate in estimates.items()},
        }


def evaluate_retrieval(vectors: np.ndarray, photos: RetrievalSet, min_relevance: int = PARTIAL) -> RetrievalResult:
    """Search the gallery with every query by exact cosine.

    Args:
        vectors: ``(len(photos.paths), d)`` embeddings of the set's photos.
        photos: the set. What is the query itself is left out of its results.
        min_relevance: 1 counts partial hits, 2 exact ones only.

    Raises:
        EvaluationError: if no query has anything of that relevance to find.
    """
    vectors = as_stored(vectors)
    if not photos.answerable(min_relevance):
        raise EvaluationError(
            f"No query of {photos.folder} has a photo of relevance {min_relevance} or more to find, besides itself. "
            + ("Count partial hits too, with --min-relevance 1." if min_relevance > PARTIAL else "")
        )
    asked = np.flatnonzero(((photos.relevance >= min_relevance) & ~photos.itself).any(axis=1))
    gallery = vectors[photos.gallery]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in RETRIEVAL_METRICS}
    for start in range(0, len(asked), _QUERIES_AT_ONCE):
        part = asked[start : start + _QUERIES_AT_ONCE]
        similarities = cosines(vectors[photos.queries[part]], gallery)
        ranking = rank(similarities, photos.relevance[part], photos.itself[part], min_relevance)
        for name, found in (
            ("recall_at_1", ranking.recalled_at(1)),
            ("recall_at_5", ranking.recalled_at(5)),
            ("recall_at_10", ranking.recalled_at(10)),
            ("map_at_r", ranking.average_precisions_at_r()),
            ("mean_average_precision", ranking.average_precisions()),
            ("ndcg_at_10", ranking.ndcgs_at(10)),
        ):
            parts[name].append(found.astype(np.float64))
    values = {name: np.concatenate(found) for name, found in parts.items()}
    return RetrievalResult(photos.sha256, len(asked), len(photos.gallery), min_relevance, values)


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
            "accuracy": _rounded(estimate.value),
            "intervals": {"accuracy": _interval(estimate)},
            "by_positive_type": self._by(self.positive_type),
            "by_negative_type": self._by(self.negative_type),
            "validation_block": {
                "mean": _rounded(self.block.mean),
                "spread": _rounded(self.block.spread),
                "draws": [_rounded(value) for value in self.block.accuracies],
                "size": self.block.size,
            },
        }

    def _by(self, types: np.ndarray) -> dict[str, Any]:
        found = {}
        for name in sorted(set(types.tolist()) - {""}):
            estimate = self.estimate(types == name)
            found[name] = {
                "triplets": int((types == name).sum()),
                "accuracy": _rounded(estimate.value),
                "interval": _interval(estimate),
            }
        return found


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
        raise EvaluationError("There is no triplet to measure.")
    queries = triplets.rows[:, 0]
    groups = triplets.groups()[queries]
    if len(np.unique(groups)) < _FEWEST_GROUPS:
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


@dataclass(frozen=True, eq=False)
class CodeResult:
    """How much of the exact search's first results the coded search finds.

    Attributes:
        k: results of a search.
        queries: searches that were compared.
        gallery: photos that were searched.
        recall: share of the exact first ``k``, by the number of candidates.
        intervals: 95 % intervals over queries.
    """

    k: int
    queries: int
    gallery: int
    recall: Mapping[int, float]
    intervals: Mapping[int, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "k": self.k,
            "queries": self.queries,
            "gallery": self.gallery,
            "recall": {str(count): _rounded(value) for count, value in self.recall.items()},
            "intervals": {str(count): [_rounded(end) for end in ends] for count, ends in self.intervals.items()},
        }


def code_recall(
    queries: np.ndarray,
    gallery: np.ndarray,
    leave_out: np.ndarray | None = None,
    k: int = 10,
    candidates: Sequence[int] = CANDIDATES,
) -> CodeResult:
    """Recall of the coded search against the exact one, on these vectors.

    The coded search is the plugin's: the sign of every number is one bit, the photos whose codes differ least from the
    query's are the candidates, and their exact cosines decide. Photos as similar as the last exact result count as
    found, for which of them is shown is chance.

    Args:
        queries: ``(q, d)`` embeddings.
        gallery: ``(g, d)`` embeddings.
        leave_out: ``(q, g)`` boolean, what is no result, such as the query itself.
        k: results of a search.
        candidates: how many candidates, each of them measured.

    Raises:
        EvaluationError: if a query has fewer than two photos to search in.
    """
    queries, gallery = as_stored(queries), as_stored(gallery)
    leave_out = np.zeros((len(queries), len(gallery)), dtype=bool) if leave_out is None else leave_out
    if not len(queries) or (~leave_out).sum(axis=1).min() < 2:
        raise EvaluationError("The coded search needs queries with two photos or more to search in.")
    signs = np.where(gallery > 0, np.float32(1), np.float32(-1))
    found: dict[int, list[np.ndarray]] = {count: [] for count in candidates}
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        absent = leave_out[part]
        exact = np.where(absent, -np.inf, cosines(queries[part], gallery))
        wanted = np.minimum(k, (~absent).sum(axis=1))
        last = np.take_along_axis(-np.sort(-exact, axis=1), wanted[:, None] - 1, axis=1)
        # Codes that agree in more places lie nearer: sum of products = d - 2 x hamming distance.
        agreement = np.where(queries[part] > 0, np.float32(1), np.float32(-1)) @ signs.T
        nearest = np.argsort(-np.where(absent, -np.inf, agreement), axis=1, kind="stable")
        for count, shares in found.items():
            near = np.take_along_axis(exact, nearest[:, :count], axis=1)
            shares.append(np.minimum((near >= last).sum(axis=1), wanted) / wanted)
    estimates = {count: estimate_mean(np.concatenate(shares)) for count, shares in found.items()}
    return CodeResult(
        k,
        len(queries),
        len(gallery),
        {count: estimate.value for count, estimate in estimates.items()},
        {count: estimate.interval for count, estimate in estimates.items()},
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that was measured of one model.

    Attributes:
        set: names what it was measured on and what counted as a hit; figures may be compared where it is equal.
        retrieval, triplets, codes: ``None`` where not measured.
    """

    set: str
    retrieval: RetrievalResult | None = None
    triplets: TripletResult | None = None
    codes: CodeResult | None = None

    def difference(self, other: Evaluation) -> dict[str, Estimate]:
        """By how much this model is better than another; triplet accuracy as ``triplet_accuracy``."""
        found: dict[str, Estimate] = {}
        if self.retrieval and other.retrieval:
            found |= self.retrieval.difference(other.retrieval)
        if self.triplets and other.triplets:
            found["triplet_accuracy"] = self.triplets.difference(other.triplets)
        return found

    def to_dict(self) -> dict[str, Any]:
        """``{"set": ..., "retrieval": {...}, "triplets": {...}, "codes": {...}}``, without what was not measured."""
        parts = {"retrieval": self.retrieval, "triplets": self.triplets, "codes": self.codes}
        return {"set": self.set} | {name: part.to_dict() for name, part in parts.items() if part is not None}


class Validation:
    """What models are evaluated on: a retrieval set, triplets, or both.

    Args:
        retrieval: a retrieval set.
        triplets: triplets.
        min_relevance: what counts as a hit in the retrieval set.

    Attributes:
        paths: the photos, each once, also where retrieval and triplets share them.
        sha256: names what is measured, see :class:`Evaluation`.

    Raises:
        EvaluationError: if there is neither, or a photo cannot be read.
    """

    def __init__(
        self, retrieval: RetrievalSet | None = None, triplets: Triplets | None = None, min_relevance: int = PARTIAL
    ) -> None:
        if retrieval is None and triplets is None:
            raise EvaluationError("There is nothing to evaluate on: give a retrieval set, triplets, or both.")
        if min_relevance not in (PARTIAL, EXACT):
            raise EvaluationError(f"min_relevance must be {PARTIAL} or {EXACT}, not {min_relevance!r}.")
        self.retrieval = retrieval
        self.triplets = triplets
        self.min_relevance = min_relevance
        places: dict[Path, int] = {}

        def number(paths: Sequence[Path]) -> np.ndarray:
            return np.array([places.setdefault(path.resolve(), len(places)) for path in paths], dtype=np.intp)

        self._in_retrieval = number(retrieval.paths if retrieval else ())
        self._in_triplets = number(triplets.paths() if triplets else ())
        self.paths = tuple(places)
        try:
            self._triplets_sha256 = triplets_sha256(triplets) if triplets else None
            parts = [("retrieval", retrieval.sha256, min_relevance)] if retrieval else []
        except OSError as error:
            raise EvaluationError(f"A photo cannot be read: {error}.") from error
        parts += [("triplets", self._triplets_sha256)] if triplets else []
        self.sha256 = fingerprint(parts)

    def evaluate(self, vectors: np.ndarray, candidates: Sequence[int] | None = CANDIDATES, seed: int = 0) -> Evaluation:
        """Measure a model.

        Args:
            vectors: ``(len(paths), d)`` embeddings of the photos.
            candidates: for :func:`code_recall`; ``None`` leaves it out, for what is never searched by codes.
            seed: of the draw of queries for the codes, where there are very many.

        Raises:
            EvaluationError: if an embedding is unusable or there is nothing to find.
        """
        retrieval = triplets = codes = None
        if self.retrieval:
            retrieval = evaluate_retrieval(vectors[self._in_retrieval], self.retrieval, self.min_relevance)
        if self.triplets:
            triplets = evaluate_triplets(vectors[self._in_triplets], self.triplets, self._triplets_sha256)
        if candidates is not None:
            codes = self._codes(vectors, candidates, seed)
        return Evaluation(self.sha256, retrieval, triplets, codes)

    def _codes(self, vectors: np.ndarray, candidates: Sequence[int], seed: int) -> CodeResult:
        # Every photo of the database is also a query: as many searches as there are, and none of them finds itself.
        database = np.unique(self._in_retrieval[self.retrieval.gallery]) if self.retrieval else self._in_triplets
        asked = np.arange(len(database))
        if len(asked) > _CODE_QUERIES:
            asked = np.sort(np.random.default_rng(seed).choice(asked, _CODE_QUERIES, replace=False))
        itself = asked[:, None] == np.arange(len(database))[None, :]
        return code_recall(vectors[database[asked]], vectors[database], itself, candidates=candidates)


def _rounded(value: float) -> float:
    return round(float(value), 4)


def _interval(estimate: Estimate) -> list[float]:
    return [_rounded(estimate.low), _rounded(estimate.high)]
