"""A list without the same thing twice: near-identical products collapsed, the rest ordered for diversity.

How alike two found products are is read from the sign codes of their vectors. The share of signs that differ is, for
vectors without a preferred direction, the angle between them divided by pi, so h of 4096 signs stand for the cosine
``cos(pi * h / 4096)`` (M. S. Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .models import EMBEDDING_DIM


def codes_from(codes: Sequence[bytes]) -> np.ndarray:
    """Codes of 512 bytes each as (n, 64) words."""
    return np.frombuffer(b"".join(codes), dtype=np.uint64).reshape(len(codes), EMBEDDING_DIM // 64)


def likeness(code: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) cosines, -1 to 1, estimated between one code (64,) and (n, 64) others."""
    differing = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.int64)
    return np.cos(np.pi * differing / EMBEDDING_DIM)


def without_duplicates(
    codes: np.ndarray, groups: Sequence[frozenset[str]], taken: np.ndarray, taken_groups: set[str], threshold: float
) -> list[int]:
    """Places of those that are neither a variant nor a near-copy of what comes before them.

    Args:
        codes: (n, 64), best first.
        groups: for each the groups of variants that it belongs to.
        taken: (m, 64) codes of what stands in the list already.
        taken_groups: their groups of variants.
        threshold: cosine from which two are near-copies; above 1 none are.
    """
    gone = np.zeros(len(codes), dtype=bool)
    if threshold <= 1:
        for code in taken:
            gone |= likeness(code, codes) >= threshold
    met = set(taken_groups)
    kept = []
    for place, code in enumerate(codes):
        if gone[place] or met & groups[place]:
            continue
        kept.append(place)
        met |= groups[place]
        if threshold <= 1:
            gone[place:] |= likeness(code, codes[place:]) >= threshold
    return kept


def marginal_relevance(scores: np.ndarray, codes: np.ndarray, taken: np.ndarray, diversity: float) -> list[int]:
    """Order by maximal marginal relevance.

    The next one is always that with the largest ``(1 - diversity) * score - diversity * likeness``, likeness being that
    to the most similar one that stands in the list already (J. Carbonell and J. Goldstein, "The use of MMR,
    diversity-based reranking for reordering documents and producing summaries", SIGIR 1998). A likeness below 0 counts
    as 0: to be the opposite is no merit.

    Args:
        scores: (n,), descending.
        codes: (n, 64).
        taken: (m, 64) codes of what stands in the list already.
        diversity: 0 to 1; 0 leaves the order as it is.

    Returns:
        The n places in their new order. Of equals the first comes first.
    """
    if not diversity or len(scores) < 2:
        return list(range(len(scores)))
    nearest = np.zeros(len(scores))
    for code in taken:
        np.maximum(nearest, likeness(code, codes), out=nearest)
    relevance = (1 - diversity) * scores
    left = np.ones(len(scores), dtype=bool)
    order = []
    for _ in range(len(scores)):
        best = int(np.where(left, relevance - diversity * nearest, -np.inf).argmax())
        left[best] = False
        order.append(best)
        np.maximum(nearest, likeness(codes[best], codes), out=nearest)
    return order
