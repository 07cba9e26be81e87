"""Which photos of a batch belong together, and which may be pushed apart.

Triplets name few pairs, while a loss over a batch looks at all of them. Two photos of different triplets are nearly
always unlike, so they serve as negatives for nothing; but the same photo, or a look-alike that some other triplet
names, must not.
"""

from __future__ import annotations

import numpy as np

NEGATIVES = ("neighbours", "batch", "components", "explicit")


class Relations:
    """Pairs of a data set, looked up for the photos of a batch.

    Args:
        count: number of photos.
        positive_pairs: ``(m, 2)`` places of photos that belong together, in either direction.
        negative_pairs: ``(k, 2)`` places of photos that are named as unlike.
        components: ``(count,)`` number of the group of photos that are linked by positives.
        identities: ``(count,)`` numbers that are equal for copies of one file; every photo is another by default.
        negatives: which pairs may be pushed apart. ``"batch"``: all that are no positive pair and not the same photo.
            ``"neighbours"``: of these, not two that share a positive, unless they are named as unlike: photos of one
            product that each were paired with its main photo are not pushed apart. ``"components"``: likewise, not two
            that any chain of positives links; where positives are noisy, such chains tie half a category together, and
            the best negatives are lost. ``"explicit"``: only the pairs that are named as unlike.
        twins: whether views of one photo are positives of each other. They are never negatives.

    Raises:
        ValueError: for an unknown kind of negatives, or one whose pairs are missing.
    """

    def __init__(
        self,
        count: int,
        positive_pairs: np.ndarray,
        negative_pairs: np.ndarray | None = None,
        components: np.ndarray | None = None,
        identities: np.ndarray | None = None,
        negatives: str = "neighbours",
        twins: bool = False,
    ) -> None:
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {', '.join(NEGATIVES)}, not {negatives!r}.")
        if negatives == "components" and components is None:
            raise ValueError("negatives by components need the components.")
        if negatives == "explicit" and negative_pairs is None:
            raise ValueError("explicit negatives need the pairs.")
        self.count = count
        self._kind = negatives
        self._twins = twins
        self._components = components
        self._identities = np.arange(count) if identities is None else np.asarray(identities)
        self._positives = _Neighbours(count, positive_pairs)
        self._negatives = _Neighbours(count, np.zeros((0, 2), int) if negative_pairs is None else negative_pairs)

    def positives_of(self, photo: int) -> np.ndarray:
        """Places of the photos that belong to this one, ascending."""
        return self._positives.of(photo)

    def masks(self, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of a batch.

        Args:
            photos: ``(N,)`` places; a photo may come several times, in different views.

        Returns:
            ``positive`` and ``negative``, ``(N, N)`` bool, symmetric; no pair stands in both, and no photo's view with
            itself in either.
        """
        unique, where = np.unique(photos, return_inverse=True)
        identities = self._identities[unique]
        same = identities[:, None] == identities
        positive = self._positives.among(unique) & ~same
        unlike = self._negatives.among(unique) & ~same & ~positive
        if self._kind == "explicit":
            negative = unlike
        else:
            negative = ~same & ~positive
            if self._kind == "neighbours":
                negative = negative & (~self._positives.share(unique) | unlike)
            elif self._kind == "components":
                components = self._components[unique]
                negative = negative & ((components[:, None] != components) | unlike)
        if len(unique) < len(photos) or not np.array_equal(unique, photos):
            positive, negative, same = (mask[np.ix_(where, where)] for mask in (positive, negative, same))
        if self._twins:
            positive = positive | (same & ~np.eye(len(photos), dtype=bool))
        return positive, negative


class _Neighbours:
    """An undirected graph as lists of neighbours, one behind the other."""

    def __init__(self, count: int, pairs: np.ndarray) -> None:
        pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
        self._neighbours = both[:, 1]
        self._starts = np.searchsorted(both[:, 0], np.arange(count + 1))
        self._count = count

    def of(self, photo: int) -> np.ndarray:
        return self._neighbours[self._starts[photo] : self._starts[photo + 1]]

    def share(self, photos: np.ndarray) -> np.ndarray:
        """``(N, N)`` bool for different photos: which have a neighbour in common."""
        rows, neighbours = self._edges(photos)
        known, places = np.unique(neighbours, return_inverse=True)
        incidence = np.zeros((len(photos), len(known)), dtype=np.float32)
        incidence[rows, places] = 1
        return incidence @ incidence.T > 0

    def among(self, photos: np.ndarray) -> np.ndarray:
        """``(N, N)`` bool for different photos."""
        mask = np.zeros((len(photos), len(photos)), dtype=bool)
        place = np.full(self._count, -1, dtype=np.int64)
        place[photos] = np.arange(len(photos))
        rows, neighbours = self._edges(photos)
        columns = place[neighbours]
        mask[rows[columns >= 0], columns[columns >= 0]] = True
        return mask

    def _edges(self, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place of a photo and its neighbour, for each neighbour of each."""
        starts, ends = self._starts[photos], self._starts[photos + 1]
        lengths = ends - starts
        rows = np.repeat(np.arange(len(photos)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rows, self._neighbours[np.repeat(starts, lengths) + within]
