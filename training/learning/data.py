"""All that a run trains and validates on, over one list of photos.

Photos of equal bytes are one photo, under whatever names and in whatever folders they lie: else a copy could be a
negative of what its original is a positive of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.learning.options import SamplingOptions
from shop_similarity.training.learning.relations import UNKNOWN, Belonging, Relations
from shop_similarity.training.learning.sampling import (
    InstanceSampler,
    Passes,
    Sampler,
    TripletSampler,
    Views,
    categories_of,
    large_categories,
)
from shop_similarity.training.learning.validation import Search, Validation
from shop_similarity.training.photos.feature_cache import content_digests
from shop_similarity.training.triplets.leakage import Overlap
from shop_similarity.training.triplets.sides import Sides
from shop_similarity.training.triplets.table import Progress, TripletError, Triplets, components


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Photos, each once, and what is known of them.

    Attributes:
        paths: of the photos; one of them where several files have the same bytes.
        digests: sha256 of each photo, all different.
        places: by the resolved path of every file, its photo's place in ``paths``.
        train: triplets to train on.
        train_rows: ``(n, 3)`` the same as places in ``paths``; likewise
        validation, validation_rows: to choose the best epoch by;
        old, old_rows: triplets that are mixed in, or None and ``(0, 3)``;
        retrieval, retrieval_places: a retrieval set and the ``(n,)`` places of its photos, or None; likewise
        look_alike, look_alike_places: a look-alike set.
        sides: the rule by which the validation triplets were set aside; None where they were given.
        by_query: whether queries alone were set aside, among products that training knows.
        shared: what each of :meth:`trained_sets` shares with the validation triplets, where somebody has looked.
    """

    paths: list[Path]
    digests: list[str]
    places: Mapping[Path, int]
    train: Triplets
    train_rows: np.ndarray
    validation: Triplets
    validation_rows: np.ndarray
    old: Triplets | None
    old_rows: np.ndarray
    retrieval: RetrievalSet | None
    retrieval_places: np.ndarray | None
    look_alike: RetrievalSet | None = None
    look_alike_places: np.ndarray | None = None
    sides: Sides | None = None
    by_query: bool = False
    shared: tuple[Overlap, ...] = ()

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
        return self._relations(self._trained(), options.negatives, options.twins)

    def measured_photos(self) -> set[str]:
        """sha256 of all photos that training must not show: of validation, and what asks and should be found in sets.

        Of look-alikes only what asks: what should be found are other products, which training may know.
        """
        places = [self.validation_rows[:, :1] if self.by_query else self.validation_rows]
        if self.retrieval is not None:
            assert self.retrieval_places is not None
            places.append(self.retrieval_places[self.retrieval.judged()])
        if self.look_alike is not None:
            assert self.look_alike_places is not None
            places.append(self.look_alike_places[self.look_alike.queries])
        return {
            self.digests[place] for place in np.unique(np.concatenate([each.reshape(-1) for each in places])).tolist()
        }

    def measured_groups(self) -> set[str]:
        """Names of the groups that training must not show."""
        return set(self.validation.query_group.tolist()) - {""} if self.by_query else self.validation.group_names()

    def trained_sets(self) -> list[Triplets]:
        """The sets of triplets that are trained on."""
        return [triplets for triplets, _rows in self._trained()]

    def sampler(self, options: SamplingOptions, seed: int) -> Sampler:
        """Batches to train on.

        Raises:
            ValueError: if the data has too little for what is asked.
        """
        return Passes(self._single_pass(options, seed), options.epoch_batches)

    def _single_pass(self, options: SamplingOptions, seed: int) -> Sampler:
        views = Views(options.views, options.twins)
        if not options.per_instance:
            old = None if self.old is None else self.old_rows
            return TripletSampler(self.train_rows, options.batch_size, seed, views, old, options.mix_share)
        rows = self._all_rows()
        categories = None
        if options.by_category:
            categories = categories_of(len(self.paths), rows, _in_class(self._trained()))
        instances = max(2, 3 * options.batch_size // options.per_instance)
        groups = components(len(self.paths), rows[:, :2])
        relations = self.relations(options)
        return InstanceSampler(relations, groups, instances, options.per_instance, seed, views, categories)

    def to_validate(self, options: SamplingOptions) -> Validation:
        """What every epoch is measured on."""
        relations = self._relations([(self.validation, self.validation_rows)], options.negatives)
        search = None
        if self.look_alike is not None:
            photos, places = self.look_alike, self.look_alike_places
            assert places is not None
            search = Search(places[photos.queries], places[photos.gallery], photos.relevance, photos.left_out)
        validation = Validation(self.validation_rows, relations, options.batch_size, look_alike=search)
        if self.retrieval is None:
            return validation
        assert self.retrieval_places is not None
        return replace(
            validation,
            queries=self.retrieval_places[self.retrieval.queries],
            gallery=self.retrieval_places[self.retrieval.gallery],
            relevance=self.retrieval.relevance,
            itself=self.retrieval.left_out,
        )

    def sha256(self) -> str:
        """Names all of it by the bytes of the photos, wherever they lie."""
        digest = hashlib.sha256()
        for rows in (self.train_rows, self.validation_rows, *([] if self.old is None else [self.old_rows])):
            digest.update(f"triplets {len(rows)}\n".encode())
            digest.update("".join(self.digests[place] for place in rows.reshape(-1).tolist()).encode())
        if self.retrieval is not None and self.retrieval_places is not None:
            digest.update("".join(["retrieval", *(self.digests[place] for place in self.retrieval_places)]).encode())
        if self.look_alike is not None and self.look_alike_places is not None:
            digest.update("".join(["look-alike", *(self.digests[place] for place in self.look_alike_places)]).encode())
        # Runs had unlabelled photos once; the records of those without any count on the word.
        digest.update(b"bystanders")
        return digest.hexdigest()

    def _trained(self) -> list[tuple[Triplets, np.ndarray]]:
        """What is trained on, old triplets last, each set with its rows over ``paths``."""
        return [(self.train, self.train_rows), *([(self.old, self.old_rows)] if self.old else [])]

    def _all_rows(self) -> np.ndarray:
        """``(n, 3)`` triplets that are trained on, old ones last."""
        return np.concatenate([rows for _triplets, rows in self._trained()])

    def _relations(self, sets: Sequence[tuple[Triplets, np.ndarray]], negatives: str, twins: bool = False) -> Relations:
        rows = np.concatenate([rows for _triplets, rows in sets])
        types = np.concatenate([triplets.positive_type for triplets, _rows in sets])
        return Relations(
            len(self.paths),
            rows[:, :2],
            rows[:, [0, 2]],
            components(len(self.paths), rows[:, :2]),
            self._belonging(sets),
            negatives,
            twins,
            self._categories(sets),
            # Positives of unknown origin may be instances.
            rows[np.char.startswith(types, "instance") | (types == "")][:, :2],
        )

    def _categories(self, sets: Sequence[tuple[Triplets, np.ndarray]]) -> np.ndarray | None:
        """The shop's, where triplets name them; else of photos that triplets link to enough others of their class.

        None where no triplet names either.
        """
        if any(len(triplets.categories[0]) for triplets, _rows in sets):
            return self._named_categories(sets)
        in_class = _in_class(sets)
        if not in_class.any():
            return None
        rows = np.concatenate([rows for _triplets, rows in sets])
        return large_categories(categories_of(len(self.paths), rows, in_class))

    def _named_categories(self, sets: Sequence[tuple[Triplets, np.ndarray]]) -> np.ndarray:
        categories = np.full(len(self.paths), UNKNOWN)
        names = 0
        for triplets, rows in sets:
            pairs, known = triplets.categories
            place = np.zeros(len(triplets.images), dtype=np.int64)
            place[triplets.rows] = rows
            # Two sources may mean different things by one name. Of several names of a photo the first counts.
            categories[place[pairs[::-1, 0]]] = pairs[::-1, 1] + names
            names += len(known)
        return categories

    def _belonging(self, sets: Sequence[tuple[Triplets, np.ndarray]]) -> Belonging:
        views, groups, names = [], [], 0
        for triplets, rows in sets:
            views.append(rows[triplets.positive_type == "instance_view"][:, :2])
            memberships, known = triplets.memberships
            place = np.zeros(len(triplets.images), dtype=np.int64)
            place[triplets.rows] = rows
            # Two sources may mean different things by one name.
            groups.append(np.stack([place[memberships[:, 0]], memberships[:, 1] + names], axis=1))
            names += len(known)
        return Belonging(components(len(self.paths), np.concatenate(views)), np.concatenate(groups))


def _in_class(sets: Sequence[tuple[Triplets, np.ndarray]]) -> np.ndarray:
    return np.concatenate([triplets.in_class() for triplets, _rows in sets])


def join(
    train: Triplets,
    validation: Triplets,
    old: Triplets | None = None,
    retrieval: RetrievalSet | None = None,
    progress: Progress | None = None,
    look_alike: RetrievalSet | None = None,
) -> TrainingData:
    """Bring everything together over one list of photos.

    Args:
        train: to train on.
        validation: to choose the best epoch by.
        old: mixed in.
        retrieval: measured after every epoch as well.
        progress: called as ``progress(done, total)`` while files are read for their sha256.
        look_alike: measured after every epoch as well.

    Raises:
        TripletError: if there is nothing to train on or to validate with.
        CacheError: if a file can't be read.
    """
    for triplets, what in ((train, "train on"), (validation, "validate with")):
        if not len(triplets):
            raise TripletError(f"There is no triplet to {what}.")
    files: dict[Path, int] = {}

    def number(paths: Sequence[Path]) -> np.ndarray:
        return np.array([files.setdefault(path.resolve(), len(files)) for path in paths], dtype=np.int64)

    sets = [triplets for triplets in (train, validation, old) if triplets is not None]
    named = [number(triplets.paths()) for triplets in sets]
    searched = [None if photos is None else number(photos.paths) for photos in (retrieval, look_alike)]
    photos: dict[str, int] = {}
    place = np.array(
        [photos.setdefault(digest, len(photos)) for digest in content_digests(list(files), progress)], dtype=np.int64
    )
    rows = [place[numbers][triplets.rows] for numbers, triplets in zip(named, sets, strict=True)]
    retrieval_places, look_alike_places = (None if numbers is None else place[numbers] for numbers in searched)
    paths: dict[int, Path] = {}
    for path, file in files.items():
        paths.setdefault(int(place[file]), path)
    return TrainingData(
        list(paths.values()),
        list(photos),
        {path: int(place[file]) for path, file in files.items()},
        train,
        rows[0],
        validation,
        rows[1],
        old,
        np.zeros((0, 3), dtype=np.int64) if old is None else rows[2],
        retrieval,
        retrieval_places,
        look_alike,
        look_alike_places,
    )
