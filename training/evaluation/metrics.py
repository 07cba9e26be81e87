"""Metrics of rankings and of triplets, query by query and triplet by triplet.

Rankings: Recall@k, average precision, MAP@R and nDCG, for each query. Triplets: how many are in the right order. How
sure one can be of their means: :mod:`shop_similarity.intervals`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Whoever measures wants these as well.
from shop_similarity.intervals import Estimate as Estimate
from shop_similarity.intervals import estimate_difference as estimate_difference
from shop_similarity.intervals import estimate_mean as estimate_mean

_TRIPLETS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Metrics of every query that has at least one hit to find.

    Attributes:
        hits: ``(m, g)`` boolean, hits of each query in the order of its ranking; what was left out stands last, as
            False.
        relevant: ``(m,)``, how many hits each query could find.
        grades: ``(m, g)``, relevance in the order of the ranking, also of what is too little relevant to be a hit.
        queries: ``(m,)``, which of the queries that were given these are.
    """

    hits: np.ndarray
    relevant: np.ndarray
    grades: np.ndarray
    queries: np.ndarray

    def of_relevance(self, min_relevance: int) -> Retrieval:
        """The same rankings with fewer hits: those of that relevance at least, for the queries that have one.

        Raises:
            ValueError: if no query has one.
        """
        hits = self.grades >= min_relevance
        counts = hits.sum(axis=1)
        chosen = np.flatnonzero(counts)
        if not len(chosen):
            raise ValueError(f"No query has a hit of relevance {min_relevance}.")
        return Retrieval(hits[chosen], counts[chosen], self.grades[chosen], self.queries[chosen])

    def recall_at(self, k: int) -> float:
        """Share of queries with a hit among the first ``k``."""
        return float(self.recalled_at(k).mean())

    def recalled_at(self, k: int) -> np.ndarray:
        """``(m,)`` boolean: whether each query has a hit among its first ``k``."""
        return np.asarray(self.hits[:, :k].any(axis=1))

    def average_precisions(self) -> np.ndarray:
        """``(m,)``: mean over each query's hits of the precision at their ranks."""
        return (self._precisions() * self.hits).sum(axis=1) / self.relevant

    @property
    def mean_average_precision(self) -> float:
        return float(self.average_precisions().mean())

    def average_precisions_at_r(self) -> np.ndarray:
        """``(m,)``: as average precision, but a hit beyond rank R counts nothing, R being how many hits there are.

        Its mean is MAP@R (Musgrave et al., arXiv 2003.08505, section 3).
        """
        within = np.arange(1, self.hits.shape[1] + 1) <= self.relevant[:, None]
        return (self._precisions() * self.hits * within).sum(axis=1) / self.relevant

    def ndcgs_at(self, k: int) -> np.ndarray:
        """``(m,)``: normalised discounted cumulative gain of the first ``k``, 1 for the best possible order.

        The gain of relevance r is ``2**r - 1`` and rank i discounts it by ``log2(1 + i)`` (Burges et al., ICML 2005,
        section 6). It takes every grade into account, whatever counts as a hit.
        """
        k = min(k, self.grades.shape[1])
        discounts = 1 / np.log2(np.arange(2, k + 2))
        gains = 2.0**self.grades - 1
        best = -np.sort(-gains, axis=1)[:, :k] @ discounts
        return gains[:, :k] @ discounts / best

    def _precisions(self) -> np.ndarray:
        return np.cumsum(self.hits, axis=1) / np.arange(1, self.hits.shape[1] + 1)


def rank(
    similarities: np.ndarray,
    relevance: np.ndarray,
    leave_out: np.ndarray | None = None,
    min_relevance: int = 1,
) -> Retrieval:
    """Rank a gallery for each query.

    Args:
        similarities: ``(q, g)``, larger is more similar; equal ones keep the gallery's order.
        relevance: ``(q, g)``, boolean or whole numbers from 0, where more is more relevant.
        leave_out: ``(q, g)`` boolean, what is no candidate, such as the query itself.
        min_relevance: from which relevance on a photo is a hit.

    Returns:
        The rankings of the queries that have a hit left to find; the others measure nothing.

    Raises:
        ValueError: if no query has one, the shapes differ, or a similarity is not a number.
    """
    if similarities.shape != relevance.shape or (leave_out is not None and leave_out.shape != relevance.shape):
        raise ValueError("similarities, relevance and leave_out must have the same shape (queries, gallery).")
    if np.isnan(similarities).any():
        raise ValueError("A similarity is not a number: some embedding is zero or not finite.")
    grades = relevance.astype(np.int8)
    if leave_out is not None:
        grades = np.where(leave_out, np.int8(0), grades)
        similarities = np.where(leave_out, -np.inf, similarities)
    counts = (grades >= min_relevance).sum(axis=1)
    queries = np.flatnonzero(counts)
    if not len(queries):
        raise ValueError("No query has anything relevant in the gallery.")
    order = np.argsort(-similarities[queries], axis=1, kind="stable")
    grades = np.take_along_axis(grades[queries], order, axis=1)
    return Retrieval(grades >= min_relevance, counts[queries], grades, queries)


def correct_triplets(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which triplets are in the right order.

    Args:
        embeddings: ``(n, d)``.
        rows: ``(m, 3)`` query, positive and negative of each triplet, as indices into the embeddings.

    Returns:
        ``(m,)`` boolean: D(query, negative) > D(query, positive), strictly. A model that puts everything in one place
        is right nowhere.
    """
    correct = np.empty(len(rows), dtype=bool)
    for start in range(0, len(rows), _TRIPLETS_AT_ONCE):
        query, positive, negative = (
            embeddings[column].astype(np.float64) for column in rows[start : start + _TRIPLETS_AT_ONCE].T
        )
        near = np.square(query - positive).sum(axis=1)
        far = np.square(query - negative).sum(axis=1)
        correct[start : start + len(near)] = far > near
    return correct


def triplet_accuracy(embeddings: np.ndarray, rows: np.ndarray) -> float:
    """Share of triplets that :func:`correct_triplets` finds in the right order.

    Raises:
        ValueError: if there is no triplet.
    """
    if not len(rows):
        raise ValueError("There is no triplet to measure.")
    return float(correct_triplets(embeddings, rows).mean())


@dataclass(frozen=True)
class ValidationBlock:
    """Triplet accuracy as the article about RankNet's second implementation reports it: on a few small draws.

    Attributes:
        accuracies: of each draw.
        size: triplets of a draw.
    """

    accuracies: tuple[float, ...]
    size: int

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))

    @property
    def spread(self) -> float:
        """Standard deviation between the draws."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


def validation_block(correct: np.ndarray, draws: int = 5, size: int = 128, seed: int = 0) -> ValidationBlock:
    """Accuracy on ``draws`` random draws of ``size`` triplets, each without repetition.

    Args:
        correct: ``(m,)`` boolean, see :func:`correct_triplets`; of fewer than ``size`` triplets all are drawn.

    Raises:
        ValueError: if there is no triplet.
    """
    if not len(correct):
        raise ValueError("There is no triplet to measure.")
    generator = np.random.default_rng(seed)
    size = min(size, len(correct))
    drawn = tuple(float(generator.choice(correct, size, replace=False).mean()) for _ in range(draws))
    return ValidationBlock(drawn, size)
