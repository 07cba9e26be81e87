"""Which photos stand in which batch.

Every order is a pure function of seed and epoch: an epoch that is interrupted can be begun again, or gone on with in
the middle, with the very same batches. Nothing here touches a photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shop_similarity.training.learning.relations import Relations

# Each use of the seed draws from a stream of its own.
_ORDER, _VIEWS, _OLD, _INSTANCES, _BYSTANDERS = range(5)


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
        count: augmented versions that there are; without any, photos stay as they are.
        plain: whether the photo as it is may be drawn too.
        twins: whether each photo stands in its batch twice, in two different versions.
    """

    count: int = 0
    plain: bool = True
    twins: bool = False

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("There can't be fewer than no augmented views.")
        if self.twins and self.count + self.plain < 2:
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
        plain = self.plain or not self.count
        choices = self.count + plain
        views = generator.integers(0, choices, len(photos))
        if self.twins:
            # The other view is drawn among those that are left.
            others = (views + generator.integers(1, choices, len(photos))) % choices
            views = np.concatenate([views, others])
            photos = np.concatenate([photos, photos])
        return Batch(photos.astype(np.int32), (views + (not plain)).astype(np.int32), rows.astype(np.int32))


class TripletSampler:
    """Batches of triplets in a random order; every triplet comes once an epoch.

    Args:
        rows: ``(n, 3)`` places of query, positive and negative in the list of photos.
        batch_size: triplets of a batch. The last one of an epoch may be smaller.
        seed: of the order.
        views: which versions of the photos are taken.
        shuffle: False keeps the order of ``rows``.

    Raises:
        ValueError: without a triplet.
    """

    def __init__(
        self, rows: np.ndarray, batch_size: int, seed: int = 0, views: Views | None = None, shuffle: bool = True
    ) -> None:
        if not len(rows):
            raise ValueError("There is no triplet to make batches of.")
        self._rows = rows
        self._size = _positive(batch_size, "batch_size")
        self._seed = seed
        self._views = views or Views()
        self._shuffle = shuffle

    def epoch(self, number: int) -> list[Batch]:
        order = np.arange(len(self._rows))
        if self._shuffle:
            order = np.random.default_rng((self._seed, _ORDER, number)).permutation(len(self._rows))
        generator = np.random.default_rng((self._seed, _VIEWS, number))
        return [
            self._views.batch(self._rows[order[start : start + self._size]], generator)
            for start in range(0, len(order), self._size)
        ]


class MixedSampler:
    """Batches of new triplets with a share of old ones in each, so that what was learned is not forgotten.

    An epoch ends when every new triplet has come once. Old ones come in turn, through all of them and over again, and
    go on where the epoch before left off.

    Args:
        rows: ``(n, 3)`` new triplets.
        old: ``(m, 3)`` old ones, places in the same list of photos.
        share: of the old ones in a batch, above 0 and below 1.
        batch_size: triplets of a batch, old and new together.
        seed: of both orders.
        views: which versions of the photos are taken.

    Raises:
        ValueError: for a share out of range, a batch that has no room for both, or a side without a triplet.
    """

    def __init__(
        self,
        rows: np.ndarray,
        old: np.ndarray,
        share: float,
        batch_size: int,
        seed: int = 0,
        views: Views | None = None,
    ) -> None:
        if not 0 < share < 1:
            raise ValueError(f"The share of old triplets must be above 0 and below 1, not {share!r}.")
        if not len(rows) or not len(old):
            raise ValueError("There is no triplet to make batches of.")
        if batch_size < 2:
            raise ValueError("A batch of old and new triplets holds two of them at least.")
        self._old_size = min(batch_size - 1, max(1, round(batch_size * share)))
        self._size = batch_size - self._old_size
        self._rows, self._old = rows, old
        self._seed = seed
        self._views = views or Views()

    def epoch(self, number: int) -> list[Batch]:
        order = np.random.default_rng((self._seed, _ORDER, number)).permutation(len(self._rows))
        generator = np.random.default_rng((self._seed, _VIEWS, number))
        batches = -(-len(order) // self._size)
        old = self._turn(number * batches * self._old_size, batches * self._old_size)
        return [
            self._views.batch(
                np.concatenate(
                    [
                        self._rows[order[index * self._size : (index + 1) * self._size]],
                        self._old[old[index * self._old_size : (index + 1) * self._old_size]],
                    ]
                ),
                generator,
            )
            for index in range(batches)
        ]

    def _turn(self, start: int, count: int) -> np.ndarray:
        """``count`` places of old triplets from ``start`` on, in an endless row of permutations."""
        size = len(self._old)
        rounds = range(start // size, (start + count - 1) // size + 1)
        row = np.concatenate([np.random.default_rng((self._seed, _OLD, number)).permutation(size) for number in rounds])
        return row[start - rounds.start * size :][:count]


class InstanceSampler:
    """P x K batches: K photos of each of P instances, all of one category at a time if categories are given.

    Within one category the negatives are hard, which teaches more than a better loss does. An instance is a photo with
    photos that belong to it: K - 1 of them are drawn, or all if there are fewer. Groups with more than K photos come
    several times an epoch, so that each of their photos does about once.

    The triplets of a batch are its positive pairs, each with a random one of the photos that may be pushed apart.

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
        drawn: list[tuple[int, np.ndarray]] = []
        for group, members in enumerate(self._members):
            times = max(1, len(members) // self._per_instance)
            for anchor in generator.choice(members, times, replace=False):
                others = generator.permutation(self._relations.positives_of(anchor))[: self._per_instance - 1]
                drawn.append((group, np.concatenate([[anchor], others])))
        batches = [
            self._batch([drawn[place] for place in places], generator) for places in self._chunks(drawn, generator)
        ]
        return [batch for batch in batches if len(batch)]

    def _chunks(self, drawn: Sequence[tuple[int, np.ndarray]], generator: np.random.Generator) -> list[np.ndarray]:
        """Places of the instances of each batch."""
        order = generator.permutation(len(drawn))
        if self._categories is not None:
            # Stable, so that the order within a category stays random; categories one after the other.
            names, of_drawn = np.unique([self._categories[group] for group, _ in drawn], return_inverse=True)
            rank = generator.permutation(len(names))
            order = order[np.argsort(rank[of_drawn[order]], kind="stable")]
        # In turn, so that several draws of one group fall into different batches where that can be.
        chunks = [order[start : start + self._instances] for start in range(0, len(order), self._instances)]
        if len(chunks) > 1 and len(chunks[-1]) == 1:
            chunks[-2:] = [np.concatenate(chunks[-2:])]
        return [chunks[place] for place in generator.permutation(len(chunks))]

    def _batch(self, instances: Sequence[tuple[int, np.ndarray]], generator: np.random.Generator) -> Batch:
        photos = np.unique(np.concatenate([photos for _, photos in instances]))
        positive, negative = self._relations.masks(photos)
        pairs = np.argwhere(positive & negative.any(axis=1)[:, None])
        # One random negative each: the largest of random numbers among those that are allowed.
        chances = np.where(negative[pairs[:, 0]], generator.random((len(pairs), len(photos))), -1.0)
        rows = np.column_stack([pairs, chances.argmax(axis=1)]) if len(pairs) else np.zeros((0, 3), dtype=np.int32)
        return self._views.complete(photos, rows, generator)


class BystanderSampler:
    """Another sampler's batches, each with some photos more that take part in no triplet.

    They are there for what looks at the whole batch, such as the penalty for changes of cosines
    (``TrainingOptions.anchor``): unlabelled photos of goods that the triplets say nothing about.

    Args:
        sampler: of the batches.
        photos: places of the bystanders.
        count: of them in a batch.
        seed: of their order.

    Raises:
        ValueError: without a bystander.
    """

    def __init__(self, sampler: Sampler, photos: np.ndarray, count: int, seed: int = 0) -> None:
        if not len(photos):
            raise ValueError("There is no photo to stand by.")
        self._sampler = sampler
        self._photos = np.asarray(photos)
        self._count = min(_positive(count, "count"), len(photos))
        self._seed = seed

    def epoch(self, number: int) -> list[Batch]:
        generator = np.random.default_rng((self._seed, _BYSTANDERS, number))
        batches = []
        for batch in self._sampler.epoch(number):
            chosen = generator.choice(self._photos, self._count, replace=False).astype(batch.photos.dtype)
            batches.append(
                Batch(
                    np.concatenate([batch.photos, chosen]),
                    np.concatenate([batch.views, np.zeros_like(chosen)]),
                    batch.rows,
                )
            )
        return batches


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
    from shop_similarity.training.triplets.table import components

    return components(count, np.concatenate([rows[:, :2], rows[in_class][:, [0, 2]]]))


def _groups(groups: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _positive(value: int, name: str) -> int:
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, not {value!r}.")
    return value
