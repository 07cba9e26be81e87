"""A list without the same thing twice: near-identical products collapsed, the rest ordered for diversity.

How alike two found products are is read from the sign codes of their vectors. The share of signs that differ is, for
vectors without a preferred direction, the angle between them divided by pi, so h of 4096 signs stand for the cosine
``cos(pi * h / 4096)`` (M. S. Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from ..models import EMBEDDING_DIM

# What stands further down a list than this is on no page that anybody compares with the others.
_MOST_COMPARED = 1_000

# Likeness up to which two products are merely similar. In a shop of 181 products (docs/searching.md) the nearest other
# product is nearer than that in one case of thirteen, and the same garment in another colour in nearly three of four.
ORDINARY = 0.6


def codes_from(codes: Sequence[bytes]) -> np.ndarray:
    """Codes of 512 bytes each as (n, 64) words."""
    return np.frombuffer(b"".join(codes), dtype=np.uint64).reshape(len(codes), EMBEDDING_DIM // 64)


def likeness(code: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) cosines, -1 to 1, estimated between one code (64,) and (n, 64) others."""
    differing = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.int64)
    return np.cos(np.pi * differing / EMBEDDING_DIM)


def select(
    scores: np.ndarray,
    codes: np.ndarray,
    groups: Sequence[frozenset[str]],
    *,
    count: int,
    diversity: float = 0.0,
    threshold: float = 2.0,
    taken: np.ndarray | None = None,
    taken_groups: Iterable[str] = (),
) -> list[int]:
    """The best ones in their order, by maximal marginal relevance, none of them a near-copy or a variant of another.

    The next one is always that with the largest ``(1 - diversity) * score - diversity * redundancy`` (J. Carbonell and
    J. Goldstein, "The use of MMR, diversity-based reranking for reordering documents and producing summaries", SIGIR
    1998). Redundancy is the likeness to the most similar one that stands in the list already, counted from
    :data:`ORDINARY` (0) to 1: that two results are of one kind is no fault, that they are one shirt twice is. Each
    choice depends on those before it alone, so a smaller ``count`` gives the beginning of what a larger one gives.

    Args:
        scores: (n,), descending.
        codes: (n, 64).
        groups: for each the groups of variants that it belongs to.
        count: how many to select at most.
        diversity: 0 to 1; 0 keeps the order of the scores.
        threshold: likeness from which two are near-copies; above 1 none are.
        taken: (m, 64) codes of what stands in the list before.
        taken_groups: their groups of variants.

    Returns:
        Places in the arguments. Of equals the first comes first.
    """
    left = np.ones(len(scores), dtype=bool)
    nearest = np.zeros(len(scores))
    met = set(taken_groups)
    by_group: dict[str, list[int]] = defaultdict(list)
    for place, own in enumerate(groups):
        for group in own:
            by_group[group].append(place)
        if own & met:
            left[place] = False
    compared = bool(diversity) or threshold <= 1
    if compared and taken is not None:
        for code in taken[:_MOST_COMPARED]:
            np.maximum(nearest, likeness(code, codes), out=nearest)
        left &= nearest < threshold
    more = _MOST_COMPARED - (0 if taken is None else len(taken))
    relevance = (1 - diversity) * np.asarray(scores, dtype=np.float64)
    chosen: list[int] = []
    while len(chosen) < count and left.any():
        redundancy = np.maximum(nearest - ORDINARY, 0.0) / (1 - ORDINARY)
        best = int(np.where(left, relevance - diversity * redundancy, -np.inf).argmax())
        chosen.append(best)
        left[best] = False
        for group in groups[best]:
            left[by_group[group]] = False
        if compared and len(chosen) <= more:
            alike = likeness(codes[best], codes)
            left &= alike < threshold
            np.maximum(nearest, alike, out=nearest)
    return chosen
