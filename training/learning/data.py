"""All that a run trains and validates on, over one list of photos."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.learning.loop import Validation
from shop_similarity.training.learning.relations import NEGATIVES, Relations
from shop_similarity.training.learning.sampling import (
    BystanderSampler,
    InstanceSampler,
    MixedSampler,
    Sampler,
    TripletSampler,
    Views,
    categories_of,
)
from shop_similarity.training.photos.feature_cache import content_digests
from shop_similarity.training.triplets.checks import Progress
from shop_similarity.training.triplets.table import TripletError, Triplets, components


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How batches are put together.

    Attributes:
        batch_size: triplets of a batch; with ``per_instance``, photos of a batch divided by 3.
        per_instance: photos of each instance (K of P x K batches); 0 for batches of the triplets as they are.
        by_category: whether batches by instance are drawn from one category at a time.
        negatives: see :class:`~shop_similarity.training.learning.relations.Relations`.
        views: augmented views of each photo in the cache.
        plain_view: whether the photo as it is may be drawn besides them.
        twins: whether each photo stands in its batch twice, in two views.
        mix_share: share of old triplets in a batch.
        bystanders: unlabelled photos that stand by in each batch.

    Raises:
        ValueError: for a value that makes no sense.
    """

    batch_size: int = 64
    per_instance: int = 0
    by_category: bool = True
    negatives: str = "neighbours"
    views: int = 0
    plain_view: bool = True
    twins: bool = False
    mix_share: float = 0.3
    bystanders: int = 64

    def __post_init__(self) -> None:
        if self.negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {', '.join(NEGATIVES)}, not {self.negatives!r}.")
        if self.batch_size < 1 or self.bystanders < 1:
            raise ValueError("The batch size and the number of bystanders must be 1 or more.")
        if self.per_instance == 1 or self.per_instance < 0:
            raise ValueError("Batches by instance need at least two photos of each instance.")
        if not 0 < self.mix_share < 1:
            raise ValueError(f"The share of old triplets must be above 0 and below 1, not {self.mix_share!r}.")

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SamplingOptions:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            ValueError: for an unknown key or a wrong value.
        """
        unknown = sorted(set(values) - {each.name for each in fields(cls)})
        if unknown:
            raise ValueError(f"Unknown sampling option: {', '.join(unknown)}.")
        return cls(**values)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Photos, each once, and what is known of them.

    Attributes:
        paths: of the photos.
        digests: sha256 of each file.
        train: triplets, whose photos are at ``train_places``.
        train_places: ``(len(train.images),)`` places in ``paths``; likewise
        validation, validation_places: to choose the best epoch by;
        old, old_places: triplets that are mixed in, or None;
        retrieval, retrieval_places: a retrieval set, or None;
        bystanders: ``(n,)`` places of unlabelled photos.
    """

    paths: list[Path]
    digests: list[str]
    train: Triplets
    train_places: np.ndarray
    validation: Triplets
    validation_places: np.ndarray
    old: Triplets | None
    old_places: np.ndarray | None
    retrieval: RetrievalSet | None
    retrieval_places: np.ndarray | None
    bystanders: np.ndarray

    @property
    def train_rows(self) -> np.ndarray:
        """``(n, 3)`` places in ``paths``."""
        return self.train_places[self.train.rows]

    def training_photos(self) -> np.ndarray:
        """Places of all photos that some training triplet names, ascending."""
        places = [self.train_rows.reshape(-1)]
        if self.old is not None:
            places.append(self.old_places[self.old.rows].reshape(-1))
        return np.unique(np.concatenate(places))

    def views(self, count: int) -> list[int]:
        """Of each photo, how many augmented views training wants."""
        wanted = np.zeros(len(self.paths), dtype=int)
        wanted[self.training_photos()] = count
        return wanted.tolist()

    def relations(self, negatives: str) -> Relations:
        """Of the photos that are trained on."""
        sets = [(self.train, self.train_places)]
        if self.old is not None:
            sets.append((self.old, self.old_places))
        bystanders = np.zeros(len(self.paths), dtype=bool)
        bystanders[self.bystanders] = True
        bystanders[self.training_photos()] = False
        return self._relations(sets, negatives, bystanders)

    def sampler(self, options: SamplingOptions, seed: int) -> Sampler:
        """Batches to train on.

        Raises:
            ValueError: if the data has too little for what is asked.
        """
        views = Views(options.views, options.plain_view, options.twins)
        if options.per_instance:
            sampler = self._by_instance(options, seed, views)
        elif self.old is not None:
            old = self.old_places[self.old.rows]
            sampler = MixedSampler(self.train_rows, old, options.mix_share, options.batch_size, seed, views)
        else:
            sampler = TripletSampler(self.train_rows, options.batch_size, seed, views)
        if len(self.bystanders):
            sampler = BystanderSampler(sampler, self.bystanders, options.bystanders, seed)
        return sampler

    def to_validate(self, options: SamplingOptions) -> Validation:
        """What every epoch is measured on."""
        relations = self._relations([(self.validation, self.validation_places)], options.negatives, None)
        rows = self.validation_places[self.validation.rows]
        if self.retrieval is None:
            return Validation(rows, relations, options.batch_size)
        return Validation(
            rows,
            relations,
            options.batch_size,
            self.retrieval_places[self.retrieval.queries],
            self.retrieval_places[self.retrieval.gallery],
            self.retrieval.relevance,
            self.retrieval.itself,
        )

    def sha256(self) -> str:
        """Names all of it by the bytes of the photos, wherever they lie."""
        digest = hashlib.sha256()
        sets = [(self.train, self.train_places), (self.validation, self.validation_places)]
        if self.old is not None:
            sets.append((self.old, self.old_places))
        for triplets, places in sets:
            digest.update(f"triplets {len(triplets)}\n".encode())
            for row in places[triplets.rows].tolist():
                digest.update("".join(self.digests[place] for place in row).encode())
        for name, places in (("retrieval", self.retrieval_places), ("bystanders", self.bystanders)):
            if places is not None:
                digest.update("".join([name, *(self.digests[place] for place in places.tolist())]).encode())
        return digest.hexdigest()

    def _by_instance(self, options: SamplingOptions, seed: int, views: Views) -> InstanceSampler:
        relations = self.relations(options.negatives)
        rows, in_class = self.train_rows, self.train.in_class()
        if self.old is not None:
            rows = np.concatenate([rows, self.old_places[self.old.rows]])
            in_class = np.concatenate([in_class, self.old.in_class()])
        categories = categories_of(len(self.paths), rows, in_class) if options.by_category else None
        instances = max(2, 3 * options.batch_size // options.per_instance)
        groups = components(len(self.paths), rows[:, :2])
        return InstanceSampler(relations, groups, instances, options.per_instance, seed, views, categories)

    def _relations(
        self, sets: Sequence[tuple[Triplets, np.ndarray]], negatives: str, bystanders: np.ndarray | None
    ) -> Relations:
        rows = np.concatenate([places[triplets.rows] for triplets, places in sets])
        count = len(self.paths)
        identities = np.unique(np.array(self.digests), return_inverse=True)[1].reshape(-1)
        return Relations(
            count,
            rows[:, :2],
            rows[:, [0, 2]],
            components(count, rows[:, :2]),
            identities,
            bystanders,
            negatives,
        )


def join(
    train: Triplets,
    validation: Triplets,
    old: Triplets | None = None,
    retrieval: RetrievalSet | None = None,
    bystanders: Sequence[Path] = (),
    progress: Progress | None = None,
) -> TrainingData:
    """Bring everything together over one list of photos.

    Args:
        train: to train on.
        validation: to choose the best epoch by.
        old: mixed in.
        retrieval: measured after every epoch as well.
        bystanders: unlabelled photos.
        progress: called as ``progress(done, total)`` while files are read for their sha256.

    Raises:
        TripletError: if there is nothing to train on or to validate with.
        CacheError: if a file can't be read.
    """
    for triplets, what in ((train, "train on"), (validation, "validate with")):
        if not len(triplets):
            raise TripletError(f"There is no triplet to {what}.")
    numbers: dict[Path, int] = {}

    def places(paths: Sequence[Path]) -> np.ndarray:
        return np.array([numbers.setdefault(path.resolve(), len(numbers)) for path in paths], dtype=np.int64)

    train_places, validation_places = places(train.paths()), places(validation.paths())
    old_places = None if old is None else places(old.paths())
    retrieval_places = None if retrieval is None else places(retrieval.paths)
    bystander_places = np.unique(places(bystanders))
    paths = list(numbers)
    return TrainingData(
        paths,
        content_digests(paths, progress),
        train,
        train_places,
        validation,
        validation_places,
        old,
        old_places,
        retrieval,
        retrieval_places,
        bystander_places,
    )
