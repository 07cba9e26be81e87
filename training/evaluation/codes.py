"""What the search by sign codes loses of the exact search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shop_similarity.intervals import estimate_mean
from shop_similarity.training.evaluation.results import QUERIES_AT_ONCE, EvaluationError, as_stored, cosines, rounded

CANDIDATES = (10, 50, 100, 200)
"""Candidates by code distance whose exact cosine is computed; 200 is the plugin's default."""


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
            "recall": {str(count): rounded(value) for count, value in self.recall.items()},
            "intervals": {str(count): [rounded(end) for end in ends] for count, ends in self.intervals.items()},
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
        raise EvaluationError("The coded search needs queries with two photos or more to search in: give a larger set.")
    signs = np.where(gallery > 0, np.float32(1), np.float32(-1))
    shares_by_count: dict[int, list[np.ndarray]] = {count: [] for count in candidates}
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        absent = leave_out[part]
        exact = np.where(absent, -np.inf, cosines(queries[part], gallery))
        results = np.minimum(k, (~absent).sum(axis=1))
        last = np.take_along_axis(-np.sort(-exact, axis=1), results[:, None] - 1, axis=1)
        # Codes that agree in more places lie nearer: sum of products = d - 2 x hamming distance.
        agreement = np.where(queries[part] > 0, np.float32(1), np.float32(-1)) @ signs.T
        nearest = np.argsort(-np.where(absent, -np.inf, agreement), axis=1, kind="stable")
        for count, shares in shares_by_count.items():
            near = np.take_along_axis(exact, nearest[:, :count], axis=1)
            shares.append(np.minimum((near >= last).sum(axis=1), results) / results)
    estimates = {count: estimate_mean(np.concatenate(shares)) for count, shares in shares_by_count.items()}
    return CodeResult(
        k,
        len(queries),
        len(gallery),
        {count: estimate.value for count, estimate in estimates.items()},
        {count: estimate.interval for count, estimate in estimates.items()},
    )
