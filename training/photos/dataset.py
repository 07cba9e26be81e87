"""Batches of photos for training, as a ``tf.data`` pipeline.

Photos are decoded and resized by the very functions that a worker uses when it embeds them, so training can't see
other pixels than serving. Threads decode ahead while the network computes. What comes in which order is the sampler's
business: it hands over arrays of places, and they come back as arrays of pixels in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shop_similarity.photos.decoding import DEFAULT_LIMITS, ImageError, ImageLimits, open_image
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.photos.augmentation import Augmentation, generator_of
from shop_similarity.training.threads import ordered_map

if TYPE_CHECKING:
    import tensorflow as tf

BATCHES_AHEAD = 2


class PhotoError(TrainingError):
    """A photo that can't be read in the middle of training; ``str()`` names the file and says what to do."""


def load_photo(
    path: Path,
    preprocessing: Preprocessing,
    augmentation: Augmentation | None = None,
    generator: np.random.Generator | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> np.ndarray:
    """One photo as the network takes it.

    Returns:
        ``(size, size, 3)`` ``uint8``.

    Raises:
        PhotoError: the photo can't be read.
    """
    try:
        image = open_image(path, limits, target_size=preprocessing.size)
    except ImageError as error:
        raise PhotoError(
            f"The photo {path} can't be used any more: {error} It could be when the training began; put it back, then "
            f"go on from the last checkpoint with --resume."
        ) from error
    except OSError as error:
        raise PhotoError(
            f"The photo {path} can't be read ({error.strerror or error}). When its disk is back, go on from the last "
            f"checkpoint with --resume."
        ) from error
    if augmentation is not None:
        assert generator is not None
        image = augmentation.apply(image, generator)
    return preprocessing.prepare(image)


def photo_batches(
    paths: Sequence[Path],
    batches: Sequence[np.ndarray],
    preprocessing: Preprocessing,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    epoch: int = 0,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    threads: int | None = None,
    first: int = 0,
) -> tf.data.Dataset:
    """The photos of one epoch, batch by batch.

    Args:
        paths: all photos.
        batches: one array of places in ``paths`` for each batch; sizes may differ, a place may come again.
        preprocessing: of the model that is trained.
        augmentation: None leaves photos as they are served. A photo that comes several times is changed anew each time.
        seed: together with ``epoch`` and the place in the epoch it decides how a photo is changed.
        epoch: number of the epoch.
        limits: what photos may be.
        threads: that decode; one for each core by default.
        first: number of the batch to begin with, for an epoch that was interrupted; photos are changed as if it had
            begun with the first.

    Returns:
        Dataset of ``(N, size, size, 3)`` ``uint8``, ``N`` the length of each array, in their order; the same in every
        run. Iterate it within :func:`photo_errors`.
    """
    import tensorflow as tf

    paths = list(paths)
    indices = [np.asarray(batch, dtype=np.int64).reshape(-1) for batch in batches]
    starts = np.cumsum([0, *(len(batch) for batch in indices)])
    size = preprocessing.size

    def plain(place: int) -> np.ndarray:
        return load_photo(paths[place], preprocessing, limits=limits)

    def augmented(photo: tuple[int, int]) -> np.ndarray:
        place, position = photo
        return load_photo(paths[place], preprocessing, augmentation, generator_of(seed, epoch, position), limits)

    def load_batch(number: np.ndarray) -> np.ndarray:
        batch, start = indices[int(number)], int(starts[int(number)])
        if not len(batch):
            return np.empty((0, size, size, 3), dtype=np.uint8)
        if augmentation is None:
            places, where = np.unique(batch, return_inverse=True)
            return np.stack(list(ordered_map(plain, places.tolist(), threads)))[where.reshape(-1)]
        return np.stack(list(ordered_map(augmented, zip(batch.tolist(), count(start)), threads)))

    same = len({len(batch) for batch in indices}) == 1
    shape = (len(indices[0]) if same else None, size, size, 3)

    def fetch(number: tf.Tensor) -> tf.Tensor:
        pixels = tf.numpy_function(load_batch, [number], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, shape)

    dataset = tf.data.Dataset.range(first, len(indices)).map(fetch, num_parallel_calls=2, deterministic=True)
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(BATCHES_AHEAD).with_options(options)


@contextmanager
def photo_errors() -> Iterator[None]:
    """Turns TensorFlow's account of a photo that can't be read back into the :class:`PhotoError` that it was."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if match := re.search(r"PhotoError: (.+)", error.message):
            raise PhotoError(match[1].strip()) from error
        raise
