"""Which photos stand in which batch.

Every order is a pure function of seed and epoch: an epoch that is interrupted can be begun again, or gone on with in
the middle, with the very same batches. Nothing here touches a photo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shop_similarity.training.learning.relations import UNKNOWN, Relations
from shop_similarity.training.triplets.table import components

LARGE_CATEGORY = 8
"""Photos from which on what triplets link is taken for a category."""

# Each use of the seed draws from a stream of its own.
_ORDER, _VIEWS, _OLD, _INSTANCES = range(4)


@dataclass(frozen=True, eq=False)
class Batch:
    """The photos of one step.

    Attributes:
        photos: ``(N,)`` places in the list of photos. A photo stands there once, or once for each view.
        views: ``(N,)`` which version of the photo: 0 as it is, from 1 on augmented.
        rows: ``(B, 3)`` query, positive and negative as places in ``photos``.
    """

    photos: np.ndarray
    views: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


class Sampler(Protocol):
    """What the trainer asks for batches."""

    def epoch(self, number: int) -> list[Batch]:
        """The batches of an epoch, the same whenever they are asked for."""


@dataclass(frozen=True)
class Views:
    """Which version of a photo a batch takes.

    Attributes:
        count: augmented versions that there are, besides the photo as it is.
        twins: whether each photo stands in its batch twice, in two different versions.
    """

    count: int = 0
    twins: bool = False

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("There can't be fewer than no augmented views.")
        if self.twins and not self.count:
            raise ValueError("Twins need two different views of a photo: ask for more views.")

    def batch(self, places: np.ndarray, generator: np.random.Generator) -> Batch:
        """A batch of the photos that some triplets name.

        Args:
            places: ``(B, 3)`` places in the list of photos.
            generator: that draws the views.
        """
        photos, where = np.unique(places, return_inverse=True)
        return self.complete(photos, where.reshape(-1, 3), generator)

    def complete(self, photos: np.ndarray, rows: np.ndarray, generator: np.random.Generator) -> Batch:
        """A batch of given photos, each of them once, and triplets of their places."""
        choices = self.count + 1
        views = generator.integers(0, choices, len(photos))
        if self.twins:
            # The other view is drawn among those that are left.
            others = (views + generator.integers(1, choices, len(photos))) % choices
            views = np.concatenate([views, others])
            photos = np.concatenate([photos, photos])
        return Batch(photos.astype(np.int32), views.astype(np.int32), rows.astype(np.int32))


class TripletSampler:
    """Batches of triplets in a random order; every triplet comes once an epoch.

    With old triplets, each batch holds a share of them, so that what was learned is not forgotten: they come in turn,
    through all of them and over again, and go on where the epoch before left off.

    Args:
        rows: ``(n, 3)`` places of query, positive and negative in the list of photos.
        batch_size: triplets of a batch, old ones among them. The last one of an epoch may be smaller.
        seed: of the order.
        views: which versions of the photos are taken.
        old: ``(m, 3)`` old triplets, places in the same list.
        share: of the old ones in a batch, above 0 and below 1.

    Raises:
        ValueError: without a triplet, or for a batch that has no room for old and new ones.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch_size: int,
        seed: int = 0,
        views: Views | None = None,
        old: np.ndarray | None = None,
        share: float = 0.0,
    ) -> None:
        if not len(rows) or (old is not None and not len(old)):
            raise ValueError("There is no triplet to make batches of.")
        if batch_size < (1 if old is None else 2):
            raise ValueError("A batch holds one triplet at least, and two where old ones are mixed in.")
        self._old_size = 0 if old is None else min(batch_size - 1, max(1, round(batch_size * share)))
        self._size = batch_size - self._old_size
        self._rows, self._old = rows, old
        self._seed = seed
        self._views = views or Views()

    def epoch(self, number: int) -> list[Batch]:
        rows = self._rows[np.random.default_rng((self._seed, _ORDER, number)).permutation(len(self._rows))]
        places = [rows[start : start + self._size] for start in range(0, len(rows), self._size)]
        if self._old is not None:
            old = self._turn(self._old, number * len(places) * self._old_size, len(places) * self._old_size)
            places = [np.concatenate(pair) for pair in zip(places, np.split(old, len(places)), strict=True)]
        generator = np.random.default_rng((self._seed, _VIEWS, number))
        return [self._views.batch(each, generator) for each in places]

    def _turn(self, old: np.ndarray, start: int, count: int) -> np.ndarray:
        """``(count, 3)`` old triplets from ``start`` on, in an endless row of permutations."""
        size = len(old)
        rounds = range(start // size, (start + count - 1) // size + 1)
        row = np.concatenate([np.random.default_rng((self._seed, _OLD, number)).permutation(size) for number in rounds])
        return old[row[start - rounds.start * size :][:count]]


class Passes:
    """Epochs of a small data set, each of which goes through it several times.

    What a head has learned hangs on the number of its steps; a few dozen leave it near its start.

    Args:
        sampler: of a single pass.
        batches: that an epoch has at least.
    """

    def __init__(self, sampler: Sampler, batches: int) -> None:
        self._sampler = sampler
        self._count = math.ceil(batches / max(1, len(sampler.epoch(1))))

    def epoch(self, number: int) -> list[Batch]:
        last = number * self._count
        return [batch for each in range(last - self._count + 1, last + 1) for batch in self._sampler.epoch(each)]


class InstanceSampler:
    """P x K batches: K photos of each of P instances, all of one category at a time if categories are given.

    Within one category the negatives are hard, which teaches more than a better loss does. An instance is a photo with
    photos that belong to it: K - 1 of them are drawn, or all if there are fewer. Groups with more than K photos come
    several times an epoch, so that each of their photos does about once.

    The triplets of a batch are its positive pairs, each with a random one of the photos that may be pushed apart from
    both.

    Args:
        relations: of the data set.
        groups: ``(count,)`` number of the group that each photo belongs to; photos without a positive are left out.
        instances: P.
        per_instance: K, at least 2.
        seed: of the order and of all draws.
        views: which versions of the photos are taken.
        categories: ``(count,)`` category of each photo; batches are drawn from one of them at a time. Small
            categories are filled up from the others.

    Raises:
        ValueError: if there are no two instances to tell apart, or K is below 2.
    """

    def __init__(
        self,
        relations: Relations,
        groups: np.ndarray,
        instances: int,
        per_instance: int,
        seed: int = 0,
        views: Views | None = None,
        categories: np.ndarray | None = None,
    ) -> None:
        if per_instance < 2:
            raise ValueError("Batches by instance need at least two photos of each instance.")
        if instances < 2:
            raise ValueError("Batches by instance need at least two instances to tell apart.")
        self._relations = relations
        self._instances, self._per_instance = instances, per_instance
        self._seed = seed
        self._views = views or Views()
        with_positive = np.array([len(relations.positives_of(photo)) > 0 for photo in range(relations.count)])
        self._members: list[np.ndarray] = [
            members[with_positive[members]] for members in _groups(np.asarray(groups)) if with_positive[members].any()
        ]
        if len(self._members) < 2:
            raise ValueError("The data shows fewer than two instances with two photos each.")
        self._categories = None if categories is None else [categories[members[0]] for members in self._members]

    def epoch(self, number: int) -> list[Batch]:
        generator = np.random.default_rng((self._seed, _INSTANCES, number))
        instances: list[tuple[int, np.ndarray]] = []
        for group, members in enumerate(self._members):
            times = max(1, len(members) // self._per_instance)
            for anchor in generator.choice(members, times, replace=False):
                others = generator.permutation(self._relations.positives_of(anchor))[: self._per_instance - 1]
                instances.append((group, np.concatenate([[anchor], others])))
        chunks = self._chunks([group for group, _ in instances], generator)
        batches = [self._batch([instances[place][1] for place in chunk], generator) for chunk in chunks]
        return [batch for batch in batches if len(batch)]

    def _chunks(self, groups: Sequence[int], generator: np.random.Generator) -> list[np.ndarray]:
        """Places of the instances of each batch."""
        order = generator.permutation(len(groups))
        if self._categories is not None:
            # Stable, so that the order within a category stays random; categories one after the other.
            names, categories = np.unique([self._categories[group] for group in groups], return_inverse=True)
            rank = generator.permutation(len(names))
            order = order[np.argsort(rank[categories[order]], kind="stable")]
        # In turn, so that several draws of one group fall into different batches where that can be.
        chunks = [order[start : start + self._instances] for start in range(0, len(order), self._instances)]
        if len(chunks) > 1 and len(chunks[-1]) == 1:
            chunks[-2:] = [np.concatenate(chunks[-2:])]
        return [chunks[place] for place in generator.permutation(len(chunks))]

    def _batch(self, instances: Sequence[np.ndarray], generator: np.random.Generator) -> Batch:
        photos = np.unique(np.concatenate(instances))
        positive, negative = self._relations.masks(photos)
        pairs = np.argwhere(positive)
        allowed = negative[pairs[:, 0]] & negative[pairs[:, 1]]
        pairs, allowed = pairs[allowed.any(axis=1)], allowed[allowed.any(axis=1)]
        # One random negative each: the largest of random numbers among those that are allowed.
        chances = np.where(allowed, generator.random((len(pairs), len(photos))), -1.0)
        rows = np.column_stack([pairs, chances.argmax(axis=1)]) if len(pairs) else np.zeros((0, 3), dtype=np.int32)
        return self._views.complete(photos, rows, generator)


def categories_of(count: int, rows: np.ndarray, in_class: np.ndarray) -> np.ndarray:
    """Categories rebuilt from triplets: photos that are linked by positives or by negatives of the same class.

    Args:
        count: number of photos.
        rows: ``(n, 3)`` triplets.
        in_class: ``(n,)`` bool: whose negative is of the query's class.

    Returns:
        ``(count,)`` number of each photo's category. A photo that is only ever named as a negative of another class has
        one of its own.
    """
    return components(count, np.concatenate([rows[:, :2], rows[in_class][:, [0, 2]]]))


def large_categories(categories: np.ndarray) -> np.ndarray:
    """The same numbers, with :data:`~shop_similarity.training.learning.relations.UNKNOWN` in place of small categories.

    Rebuilt from triplets, a few photos may be a part of a category that no triplet happened to link to the rest of it.
    """
    _numbers, where, sizes = np.unique(categories, return_inverse=True, return_counts=True)
    return np.where(sizes[where] >= LARGE_CATEGORY, categories, UNKNOWN)


def _groups(groups: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
