"""Batches of photos for training, as a ``tf.data`` pipeline.

Photos are decoded and resized by the very functions that a worker uses when it embeds them, so training can't see
other pixels than serving. Threads decode ahead while the network computes. What comes in which order is the sampler's
business: it hands over arrays of places, and they come back as arrays of pixels in the same order.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shop_similarity.photos.decoding import DEFAULT_LIMITS, ImageError, ImageLimits, open_image
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.photos.augmentation import Augmentation, generator_of

if TYPE_CHECKING:
    import tensorflow as tf

BATCHES_AHEAD = 2


class PhotoError(Exception):
    """A photo that can't be read in the middle of training; ``str()`` names the file and says what to do."""


class PixelCache:
    """Prepared pixels of photos, kept so that the second epoch decodes nothing.

    Only unchanged photos can be kept: where photos are augmented, each epoch sees other pixels. ``size`` x ``size`` x 3
    bytes a photo: 147 KiB at 224 pixels.

    Args:
        paths: the photos.
        preprocessing: what they are prepared by.
        folder: keep the pixels in a file there, for later runs as well; in memory if None. The file's name depends on
            paths, sizes and times of all photos and on the geometry, so that a changed photo is read anew.

    Raises:
        OSError: a photo is missing, or the folder can't be written.
    """

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing, folder: Path | None = None) -> None:
        shape = (len(paths), preprocessing.size, preprocessing.size, 3)
        if folder is None or not paths:
            self._pixels = np.empty(shape, dtype=np.uint8)
            self._sums = np.zeros(len(paths), dtype=np.uint64)
            return
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"pixels-{self._key(paths, preprocessing)[:32]}"
        self._pixels = _mapped(stem.with_suffix(".photos"), np.uint8, shape)
        self._sums = _mapped(stem.with_suffix(".sums"), np.uint64, (len(paths),))

    @staticmethod
    def _key(paths: Sequence[Path], preprocessing: Preprocessing) -> str:
        digest = hashlib.sha256(
            repr((preprocessing.size, preprocessing.resize, preprocessing.background, len(paths))).encode()
        )
        for path in paths:
            found = path.stat()
            digest.update(
                f"{path.resolve()}\0{found.st_size}\0{found.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
        return digest.hexdigest()

    def get(self, index: int) -> np.ndarray | None:
        """The pixels of a photo, ``(size, size, 3)`` ``uint8``, or None where they are not kept."""
        expected = int(self._sums[index])
        if not expected:
            return None
        pixels = np.array(self._pixels[index])
        return pixels if _checksum(pixels) == expected else None

    def put(self, index: int, pixels: np.ndarray) -> None:
        self._pixels[index] = pixels
        self._sums[index] = _checksum(pixels)


def _mapped(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    # A sparse file of zeros; opened for appending, so that a file with pixels in it is never cut.
    with path.open("ab") as file:
        if file.tell() != size:
            file.truncate(size)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def _checksum(pixels: np.ndarray) -> int:
    # A power cut may keep the sum and lose the pixels; never 0, which says that nothing is kept.
    return zlib.crc32(np.ascontiguousarray(pixels)) + 1


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
    cache: PixelCache | None = None,
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
        cache: keeps the pixels of unchanged photos for the next epoch; not used where photos are augmented.
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
    pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="training-decode")

    def load(index: int, position: int) -> np.ndarray:
        if augmentation is not None:
            return load_photo(paths[index], preprocessing, augmentation, generator_of(seed, epoch, position), limits)
        pixels = cache.get(index) if cache is not None else None
        if pixels is None:
            pixels = load_photo(paths[index], preprocessing, limits=limits)
            if cache is not None:
                cache.put(index, pixels)
        return pixels

    def load_batch(number: np.ndarray) -> np.ndarray:
        batch, start = indices[int(number)], int(starts[int(number)])
        pixels = np.empty((len(batch), size, size, 3), dtype=np.uint8)
        if augmentation is None:
            places, where = np.unique(batch, return_inverse=True)
            loaded = list(pool.map(load, places.tolist(), [0] * len(places)))
            for row, place in enumerate(where.reshape(-1)):
                pixels[row] = loaded[place]
        else:
            for row, photo in enumerate(pool.map(load, batch.tolist(), range(start, start + len(batch)))):
                pixels[row] = photo
        return pixels

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
        if found := re.search(r"PhotoError: (.+)", error.message):
            raise PhotoError(found[1].strip()) from error
        raise
