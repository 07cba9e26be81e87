"""Where the trainer takes the inputs of a step from: cached features, or photos that are read anew each time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from shop_similarity.photos.decoding import ImageLimits
from shop_similarity.training.learning.data import TrainingData
from shop_similarity.training.learning.sampling import Batch
from shop_similarity.training.learning.setup import Setup
from shop_similarity.training.photos.augmentation import generator_of
from shop_similarity.training.photos.dataset import load_photo, photo_batches, photo_errors
from shop_similarity.training.photos.feature_cache import CachedFeatures
from shop_similarity.training.threads import ordered_map

Item = TypeVar("Item")
BATCHES_AHEAD = 2

# Called as read(batches, epoch, first, augment): the pixels of each array of places from batch number ``first`` on.
ReadPhotos = Callable[[Sequence[np.ndarray], int, int, bool], Iterable[np.ndarray]]


class FeatureSource(Protocol):
    """What the trainer asks for inputs.

    Attributes:
        from_photos: whether the inputs are photos and not boundary tensors.
    """

    from_photos: bool

    def training(self, batches: Sequence[Batch], epoch: int, first: int) -> Iterator[list[np.ndarray]]:
        """Inputs of the batches of an epoch from number ``first`` on."""

    def plain(self, batches: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Inputs of photos as they are, by their places."""


class CachedSource:
    """Boundary tensors out of a :class:`~shop_similarity.training.photos.feature_cache.FeatureCache`."""

    from_photos = False

    def __init__(self, features: CachedFeatures) -> None:
        self._features = features

    def training(self, batches: Sequence[Batch], epoch: int, first: int) -> Iterator[list[np.ndarray]]:
        return (self._features.batch(batch.photos, batch.views) for batch in batches[first:])

    def plain(self, batches: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        return (self._features.batch(places) for places in batches)


class PhotoSource:
    """Photos, decoded and augmented in every epoch.

    Args:
        read: gives their pixels, in order.
        augment: whether photos are changed in training.
    """

    from_photos = True

    def __init__(self, read: ReadPhotos, augment: bool = False) -> None:
        self._read = read
        self._augment = augment

    def training(self, batches: Sequence[Batch], epoch: int, first: int) -> Iterator[list[np.ndarray]]:
        return ([photos] for photos in self._read([batch.photos for batch in batches], epoch, first, self._augment))

    def plain(self, batches: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        return ([photos] for photos in self._read(batches, 0, 0, False))


class PhotoReader:
    """The pixels of a run's photos.

    Args:
        data: of the run.
        setup: of the run.
        limits: what a photo may be.
    """

    def __init__(self, data: TrainingData, setup: Setup, limits: ImageLimits) -> None:
        self._data, self._setup, self._limits = data, setup, limits

    def views(self, photos: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        """Pixels of places and views, for a cache; decoded in threads some photos ahead."""

        def load(photo: tuple[int, int]) -> np.ndarray:
            place, view = photo
            # By what the photo is, not by its place or the run's seed: views serve later runs, and a cache that is
            # filled in two goes is the same.
            return load_photo(
                self._data.paths[place],
                self._setup.preprocessing,
                self._setup.augmentation if view else None,
                generator_of(0, view, int(self._data.digests[place][:12], 16)),
                self._limits,
            )

        yield from ordered_map(load, photos)

    def batches(self, batches: Sequence[np.ndarray], epoch: int, first: int, augment: bool) -> Iterable[np.ndarray]:
        """Pixels of batches, changed anew in each epoch; a :data:`ReadPhotos`."""
        dataset = photo_batches(
            self._data.paths,
            batches,
            self._setup.preprocessing,
            self._setup.augmentation if augment else None,
            self._setup.training.seed,
            epoch,
            limits=self._limits,
            first=first,
        )
        with photo_errors():
            yield from dataset.as_numpy_iterator()


def ahead(items: Iterable[Item], count: int = BATCHES_AHEAD) -> Generator[Item, None, None]:
    """The same items, made by a thread that runs some of them ahead; its exceptions are raised here."""
    # An item, or what ended the thread.
    results: queue.Queue[tuple[bool, Any]] = queue.Queue(count)
    stopped = threading.Event()

    def put(result: tuple[bool, Any]) -> bool:
        while not stopped.is_set():
            try:
                results.put(result, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=make, name="features-ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, value = results.get()
            if more:
                yield value
            elif value is not None:
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join()
