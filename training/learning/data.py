"""All that a run trains and validates on, over one list of photos."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.learning.options import SamplingOptions
from shop_similarity.training.learning.relations import Relations
from shop_similarity.training.learning.sampling import InstanceSampler, Sampler, TripletSampler, Views, categories_of
from shop_similarity.training.learning.validation import Validation
from shop_similarity.training.photos.feature_cache import content_digests
from shop_similarity.training.triplets.table import Progress, TripletError, Triplets, components


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Photos, each once, and what is known of them.

    Attributes:
        paths: of the photos.
        digests: sha256 of each file.
        train: triplets to train on.
        train_rows: ``(n, 3)`` the same as places in ``paths``; likewise
        validation, validation_rows: to choose the best epoch by;
        old, old_rows: triplets that are mixed in, or None and ``(0, 3)``;
        retrieval, retrieval_places: a retrieval set and the ``(n,)`` places of its photos, or None.
    """

    paths: list[Path]
    digests: list[str]
    train: Triplets
    train_rows: np.ndarray
    validation: Triplets
    validation_rows: np.ndarray
    old: Triplets | None
    old_rows: np.ndarray
    retrieval: RetrievalSet | None
    retrieval_places: np.ndarray | None

    def training_photos(self) -> np.ndarray:
        """Places of all photos that some training triplet names, ascending."""
        return np.unique(self._all_rows())

    def products(self) -> np.ndarray:
        """``(photos,)`` numbers; photos that some triplet names as views of one product have the same."""
        views = [
            rows[np.char.startswith(triplets.positive_type, "instance_view")][:, :2]
            for triplets, rows in ((self.train, self.train_rows), (self.old, self.old_rows))
            if triplets is not None
        ]
        return components(len(self.paths), np.concatenate(views))

    def views(self, count: int) -> list[int]:
        """Of each photo, how many augmented views training wants."""
        views = np.zeros(len(self.paths), dtype=int)
        views[self.training_photos()] = count
        return views.tolist()

    def relations(self, options: SamplingOptions) -> Relations:
        """Of the photos that are trained on."""
        return self._relations(self._all_rows(), options.negatives, options.twins)

    def sampler(self, options: SamplingOptions, seed: int) -> Sampler:
        """Batches to train on.

        Raises:
            ValueError: if the data has too little for what is asked.
        """
        views = Views(options.views, options.twins)
        if not options.per_instance:
            old = None if self.old is None else self.old_rows
            return TripletSampler(self.train_rows, options.batch_size, seed, views, old, options.mix_share)
        rows = self._all_rows()
        categories = None
        if options.by_category:
            in_class = [triplets.in_class() for triplets in (self.train, self.old) if triplets is not None]
            categories = categories_of(len(self.paths), rows, np.concatenate(in_class))
        instances = max(2, 3 * options.batch_size // options.per_instance)
        groups = components(len(self.paths), rows[:, :2])
        relations = self.relations(options)
        return InstanceSampler(relations, groups, instances, options.per_instance, seed, views, categories)

    def to_validate(self, options: SamplingOptions) -> Validation:
        """What every epoch is measured on."""
        relations = self._relations(self.validation_rows, options.negatives)
        validation = Validation(self.validation_rows, relations, options.batch_size)
        if self.retrieval is None:
            return validation
        return replace(
            validation,
            queries=self.retrieval_places[self.retrieval.queries],
            gallery=self.retrieval_places[self.retrieval.gallery],
            relevance=self.retrieval.relevance,
            itself=self.retrieval.itself,
        )

    def sha256(self) -> str:
        """Names all of it by the bytes of the photos, wherever they lie."""
        digest = hashlib.sha256()
        for rows in (self.train_rows, self.validation_rows, *([] if self.old is None else [self.old_rows])):
            digest.update(f"triplets {len(rows)}\n".encode())
            digest.update("".join(self.digests[place] for place in rows.reshape(-1).tolist()).encode())
        if self.retrieval is not None:
            digest.update("".join(["retrieval", *(self.digests[place] for place in self.retrieval_places)]).encode())
        # Runs had unlabelled photos once; the records of those without any count on the word.
        digest.update(b"bystanders")
        return digest.hexdigest()

    def _all_rows(self) -> np.ndarray:
        """``(n, 3)`` triplets that are trained on, old ones last."""
        return np.concatenate([self.train_rows, self.old_rows])

    def _relations(self, rows: np.ndarray, negatives: str, twins: bool = False) -> Relations:
        return Relations(
            len(self.paths),
            rows[:, :2],
            rows[:, [0, 2]],
            components(len(self.paths), rows[:, :2]),
            np.unique(np.array(self.digests), return_inverse=True)[1].reshape(-1),
            negatives,
            twins,
        )


def join(
    train: Triplets,
    validation: Triplets,
    old: Triplets | None = None,
    retrieval: RetrievalSet | None = None,
    progress: Progress | None = None,
) -> TrainingData:
    """Bring everything together over one list of photos.

    Args:
        train: to train on.
        validation: to choose the best epoch by.
        old: mixed in.
        retrieval: measured after every epoch as well.
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

    train_rows, validation_rows = (places(triplets.paths())[triplets.rows] for triplets in (train, validation))
    old_rows = np.zeros((0, 3), dtype=np.int64) if old is None else places(old.paths())[old.rows]
    retrieval_places = None if retrieval is None else places(retrieval.paths)
    paths = list(numbers)
    digests = content_digests(paths, progress)
    return TrainingData(
        paths, digests, train, train_rows, validation, validation_rows, old, old_rows, retrieval, retrieval_places
    )
