"""Which photos of a batch belong together, and which may be pushed apart.

Triplets name few pairs, while a loss over a batch looks at all of them. Two photos of different triplets are nearly
always unlike, so they serve as negatives for nothing; but two photos of one product, of which a triplet names a pair at
best, must not, and neither must a look-alike that some other triplet names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The category of a photo that no triplet tells.
UNKNOWN = -1
NEGATIVES = ("neighbours", "batch", "components", "explicit")


@dataclass(frozen=True, eq=False)
class Belonging:
    """What is known of photos besides the pairs that triplets name.

    Attributes:
        product: ``(count,)`` numbers, equal for photos of one product. They are never pushed apart, whatever is named.
        groups: ``(m, 2)`` photo and number of a group, such as a style in all its colours; a photo may be of several.
            Two of one group are pushed apart only where they are named as unlike, and together only where they are
            named as positives: how much another colour counts is for the triplets to say.
    """

    product: np.ndarray
    groups: np.ndarray


class Relations:
    """Pairs of a data set, looked up for the photos of a batch.

    Args:
        count: number of photos. Copies of one file are one photo.
        positive_pairs: ``(m, 2)`` places of photos that belong together, in either direction.
        negative_pairs: ``(k, 2)`` places of photos that are named as unlike.
        components: ``(count,)`` number of the group of photos that are linked by positives.
        belonging: products and groups of the photos; every photo shows another one by default.
        instance_pairs: those of ``positive_pairs`` that show one product or style, not only what looks like it; all of
            them by default.
        categories: ``(count,)`` number of each photo's category, :data:`UNKNOWN` where nobody knows; it is of all
            photos by default.
        negatives: which pairs may be pushed apart, of those that are neither a positive pair nor of one product or
            group. ``"batch"``: all of them. ``"neighbours"``: not two that share a positive, unless they are named as
            unlike: look-alikes of one product are not pushed apart. ``"components"``: likewise, not two that any chain
            of positives links; where positives are noisy, such chains tie half a category together, and the best
            negatives are lost. ``"explicit"``: only the pairs that are named as unlike.
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
        belonging: Belonging | None = None,
        negatives: str = "neighbours",
        twins: bool = False,
        categories: np.ndarray | None = None,
        instance_pairs: np.ndarray | None = None,
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
        self._categories = np.full(count, UNKNOWN) if categories is None else np.asarray(categories)
        belonging = belonging or Belonging(np.arange(count), np.zeros((0, 2), dtype=int))
        self._product = np.asarray(belonging.product)
        self._groups = _Lists(count, belonging.groups)
        self._positives = _Lists(count, _both_ways(positive_pairs))
        instances = positive_pairs if instance_pairs is None else instance_pairs
        self._instances = _Lists(count, _both_ways(instances))
        self._negatives = _Lists(count, _both_ways(np.zeros((0, 2)) if negative_pairs is None else negative_pairs))

    def categories_of(self, photos: np.ndarray) -> np.ndarray:
        """``(N,)`` int32 numbers of the categories of ``(N,)`` photos, :data:`UNKNOWN` where nobody knows."""
        return self._categories[photos].astype(np.int32)

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
        product = self._product[unique]
        same = np.eye(len(unique), dtype=bool)
        positive = self._positives.among(unique) & ~same
        unlike = self._negatives.among(unique) & ~positive & (product[:, None] != product)
        if self._kind == "explicit":
            negative = unlike
        else:
            together = positive | same | (product[:, None] == product) | self._groups.share(unique)
            if self._kind == "neighbours":
                together |= self._positives.share(unique)
            elif self._kind == "components":
                assert self._components is not None
                components = self._components[unique]
                together |= components[:, None] == components
            negative = ~together | unlike
        if len(unique) < len(photos) or not np.array_equal(unique, photos):
            positive, negative, same = (mask[np.ix_(where, where)] for mask in (positive, negative, same))
        if self._twins:
            positive = positive | (same & ~np.eye(len(photos), dtype=bool))
        return positive, negative

    def instances(self, photos: np.ndarray) -> np.ndarray:
        """``(N, N)`` bool, symmetric: which photos of a batch show one product or style, besides each itself."""
        unique, where = np.unique(photos, return_inverse=True)
        product = self._product[unique]
        same = np.eye(len(unique), dtype=bool)
        found = self._instances.among(unique) | (product[:, None] == product)
        found[same] = self._twins
        return found[np.ix_(where, where)] & ~np.eye(len(photos), dtype=bool)


def _both_ways(pairs: np.ndarray) -> np.ndarray:
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return np.concatenate([pairs, pairs[:, ::-1]])


class _Lists:
    """For each photo what it is linked to (other photos, or groups), one list behind the other."""

    def __init__(self, count: int, links: np.ndarray) -> None:
        links = np.unique(np.asarray(links, dtype=np.int64).reshape(-1, 2), axis=0)
        self._linked = links[:, 1]
        self._starts = np.searchsorted(links[:, 0], np.arange(count + 1))
        self._count = count

    def of(self, photo: int) -> np.ndarray:
        return self._linked[self._starts[photo] : self._starts[photo + 1]]

    def share(self, photos: np.ndarray) -> np.ndarray:
        """``(N, N)`` bool for different photos: which are linked to the same."""
        rows, linked = self._links(photos)
        known, places = np.unique(linked, return_inverse=True)
        incidence = np.zeros((len(photos), len(known)), dtype=np.float32)
        incidence[rows, places] = 1
        return incidence @ incidence.T > 0

    def among(self, photos: np.ndarray) -> np.ndarray:
        """``(N, N)`` bool for different photos: which are linked to each other."""
        mask = np.zeros((len(photos), len(photos)), dtype=bool)
        place = np.full(self._count, -1, dtype=np.int64)
        place[photos] = np.arange(len(photos))
        rows, linked = self._links(photos)
        columns = place[linked]
        mask[rows[columns >= 0], columns[columns >= 0]] = True
        return mask

    def _links(self, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place of a photo and what it is linked to, for each link of each."""
        starts, ends = self._starts[photos], self._starts[photos + 1]
        lengths = ends - starts
        rows = np.repeat(np.arange(len(photos)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rows, self._linked[np.repeat(starts, lengths) + within]
