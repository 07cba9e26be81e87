"""Retrieval metrics over a ranked gallery: Recall@k, average precision, and a bootstrap interval over queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Retrieval:
    """Metrics of every query that has at least one hit to find.

    Attributes:
        hits: ``(q, g)`` boolean, hits of each query in the order of its ranking; what was left out stands last, as
            False.
        relevant: ``(q,)``, how many hits each query could find.
    """

    hits: np.ndarray
    relevant: np.ndarray

    def recall_at(self, k: int) -> float:
        """Share of queries with a hit among the first ``k``."""
        return float(self.recalled_at(k).mean())

    def recalled_at(self, k: int) -> np.ndarray:
        """``(q,)`` boolean: whether each query has a hit among its first ``k``."""
        return self.hits[:, :k].any(axis=1)

    def average_precisions(self) -> np.ndarray:
        """``(q,)``: mean over each query's hits of the precision at their ranks."""
        ranks = np.arange(1, self.hits.shape[1] + 1)
        precision = np.cumsum(self.hits, axis=1) / ranks
        return (precision * self.hits).sum(axis=1) / self.relevant

    @property
    def mean_average_precision(self) -> float:
        return float(self.average_precisions().mean())


def rank(similarities: np.ndarray, relevant: np.ndarray, leave_out: np.ndarray | None = None) -> Retrieval:
    """Rank a gallery for each query.

    Args:
        similarities: ``(q, g)``, larger is more similar; equal ones keep the gallery's order.
        relevant: ``(q, g)`` boolean, what counts as a hit.
        leave_out: ``(q, g)`` boolean, what is no candidate, such as the query itself.

    Returns:
        The rankings of the queries that have a hit left to find; the others measure nothing.

    Raises:
        ValueError: if no query has one, or the shapes differ.
    """
    if similarities.shape != relevant.shape or (leave_out is not None and leave_out.shape != relevant.shape):
        raise ValueError("similarities, relevant and leave_out must have the same shape (queries, gallery).")
    relevant = relevant.astype(bool)
    if leave_out is not None:
        relevant = relevant & ~leave_out
        similarities = np.where(leave_out, -np.inf, similarities)
    counts = relevant.sum(axis=1)
    if not counts.any():
        raise ValueError("No query has anything relevant in the gallery.")
    order = np.argsort(-similarities, axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order, axis=1)
    return Retrieval(hits[counts > 0], counts[counts > 0])


def bootstrap_interval(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of per-query values, by drawing queries with replacement."""
    generator = np.random.default_rng(seed)
    values = np.asarray(values, dtype=np.float64)
    drawn = [statistic(values[generator.integers(0, len(values), len(values))]) for _ in range(draws)]
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
