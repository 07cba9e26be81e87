"""Embedding photos that lie in files, decoded in threads ahead of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from shop_similarity.conf import get_settings
from shop_similarity.photos.decoding import DEFAULT_LIMITS, ImageError, ImageLimits, open_image
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.runner import extract
from shop_similarity.training.threads import ordered_map

if TYPE_CHECKING:
    import keras

    from shop_similarity.models import ModelVersion

Progress = Callable[[int], None]
"""Called with the number of photos done."""

_Made = TypeVar("_Made")

_EXAMPLES = 5
_AHEAD = 64
THREADS = 2


class UnreadablePhotos(TrainingError):
    """Photos that cannot be read; the text names the first ones and says what to do.

    Attributes:
        reasons: what is wrong with each.
    """

    def __init__(self, reasons: dict[Path, str], count: int) -> None:
        self.reasons = reasons
        examples = [f"{path}: {reason}" for path, reason in list(reasons.items())[:_EXAMPLES]]
        more = len(reasons) - len(examples)
        super().__init__(
            "\n".join(
                [
                    f"{len(reasons)} of {count} photos cannot be read. Replace them, or take their rows out.",
                    *examples,
                    *([f"... and {more} more."] if more else []),
                ]
            )
        )


def embed_files(
    model: keras.Model,
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    batch_size: int = 16,
    progress: Progress | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> np.ndarray:
    """Apply a model to photos in files.

    Args:
        model: takes ``(B, size, size, 3)``, returns ``(B, d)``.
        paths: of the photos.
        preprocessing: that of the model.
        batch_size: photos per step.
        progress: called after each batch with the number of photos done.
        limits: what a photo may be.

    Returns:
        ``(len(paths), d)`` ``float32``, one row per photo in their order, as the model gives it.

    Raises:
        UnreadablePhotos: if some cannot be read. The model stops at the first, but all are looked at, so that one
            run tells of every bad photo.
    """
    return extract(model, map_files(preprocessing.prepare, paths, limits, preprocessing.size), batch_size, progress)


def map_files(
    function: Callable[[Image.Image], _Made],
    paths: Sequence[Path],
    limits: ImageLimits = DEFAULT_LIMITS,
    target_size: int | None = None,
    progress: Progress | None = None,
) -> Iterator[_Made]:
    """A function of every photo, in the order of the paths; computed in threads, some photos ahead.

    Args:
        function: takes an RGB image.
        paths: of the photos.
        limits: what a photo may be.
        target_size: see :func:`shop_similarity.photos.decoding.open_image`.
        progress: called after each photo with the number of photos done.

    Raises:
        UnreadablePhotos: after the last photo, if some cannot be read; nothing comes after the first of them.
    """
    reasons: dict[Path, str] = {}

    def apply(path: Path) -> _Made | str:
        try:
            return function(open_image(path, limits, target_size))
        except (ImageError, OSError) as error:
            return str(error)

    for done, result in enumerate(ordered_map(apply, paths, THREADS, _AHEAD)):
        if isinstance(result, str):
            reasons[paths[done]] = result
        elif not reasons:
            yield result
        if progress:
            progress(done + 1)
    if reasons:
        raise UnreadablePhotos(reasons, len(paths))


def embed_with_version(version: ModelVersion, paths: Sequence[Path], progress: Progress | None = None) -> np.ndarray:
    """Embed photos by a stored model version, in the precision and within the limits that workers have.

    Returns:
        ``(len(paths), 4096)`` ``float32``.

    Raises:
        WeightsError: if the version's weights cannot be used.
        UnreadablePhotos: if some photos cannot be read.
    """
    from shop_similarity.training.networks.precision import dtype_policy
    from shop_similarity.training.versions.loading import fast_policy_of, load_version

    settings = get_settings()
    with dtype_policy(fast_policy_of(version)):
        model = load_version(version, cache_dir=settings.weights_cache)
    preprocessing = Preprocessing.from_dict(version.preprocessing)
    return embed_files(model, paths, preprocessing, settings.batch_size, progress, image_limits())


def image_limits() -> ImageLimits:
    """What the shop's settings let a photo be."""
    return catalogue_limits()
