"""What a model has to beat: a colour histogram, and ImageNet's features as they are.

Each baseline is an ``Embed`` (:data:`training.evaluation.Embed`): paths of photos to ``(n, d)`` vectors whose cosine
says how alike two photos are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

from shop_similarity.images import DEFAULT_LIMITS, ImageLimits
from training.embedding_files import Progress, embed_files, map_files
from training.preprocessing import Preprocessing

if TYPE_CHECKING:
    from training.backbones.weights import BackboneWeights

# Called as progress(what, done, total); total is 0 while unknown.
FetchProgress = Callable[[str, int, int], None]

_HISTOGRAM_SIDE = 128
# Bins of lightness, green-red and blue-yellow.
_BINS = (8, 12, 12)
# CIE a and b of sRGB lie between -86 and 98, and -108 and 94; ImageCms adds 128.
_RANGES = ((0, 256), (40, 232), (16, 226))


@dataclass(frozen=True)
class Baseline:
    """One way to embed that needs no model version.

    Attributes:
        name: for ``--baselines``.
        title: for people.
        embed: called as ``embed(paths, progress)``, ``progress`` with the number of photos done.
    """

    name: str
    title: str
    embed: Callable[[Sequence[Path], Progress | None], np.ndarray]


def colour_histogram(photo: Image.Image) -> np.ndarray:
    """Joint histogram of an RGB photo's colours in CIE Lab, ``(1152,)``.

    Roots are taken, so that the cosine of two is the Bhattacharyya coefficient of the histograms.
    """
    small = photo.resize((_HISTOGRAM_SIDE, _HISTOGRAM_SIDE), Image.Resampling.BOX, reducing_gap=3.0)
    lab = np.asarray(ImageCms.applyTransform(small, _to_lab())).reshape(-1, 3).astype(np.int16)
    # Pillow keeps a and b as signed bytes in unsigned ones.
    lab[:, 1:] = (lab[:, 1:] + 128) % 256
    counts = np.histogramdd(lab, _BINS, _RANGES)[0]
    return np.sqrt(counts.ravel() / counts.sum()).astype(np.float32)


def embed_by_colour(
    paths: Sequence[Path], progress: Progress | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> np.ndarray:
    """:func:`colour_histogram` of photos in files, ``(n, 1152)``.

    Raises:
        UnreadablePhotos: if some cannot be read.
    """
    return np.stack(list(map_files(colour_histogram, paths, limits, 2 * _HISTOGRAM_SIDE, progress)))


def embed_by_backbone(
    weights: BackboneWeights,
    paths: Sequence[Path],
    progress: Progress | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    batch_size: int = 16,
) -> np.ndarray:
    """A pretrained backbone's last output, averaged over the positions: ``(n, 512)`` for VGG16.

    Photos are squashed to 224 x 224. Nothing is trained, calibrated or normalised beyond that.

    Raises:
        UnreadablePhotos: if some cannot be read.
    """
    import keras

    from training.backbones.registry import get_backbone
    from training.precision import dtype_policy, fast_policy

    backbone = get_backbone(weights.backbone)
    preprocessing = Preprocessing(mean=weights.mean, std=weights.std)
    # On CPUs, bfloat16 makes depthwise convolutions slower.
    with dtype_policy("float32" if backbone.depthwise else fast_policy()):
        pixels = keras.Input((preprocessing.size, preprocessing.size, 3), dtype="float32")
        x = keras.layers.Normalization(
            mean=list(preprocessing.mean), variance=[value**2 for value in preprocessing.std], dtype="float32"
        )(pixels)
        x = backbone.apply(x, 1.0)[backbone.taps[-1]]
        model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D(dtype="float32")(x))
    weights.apply(model)
    return embed_files(model, paths, preprocessing, batch_size, progress, limits)


def baselines(
    weights_cache: Path, limits: ImageLimits = DEFAULT_LIMITS, fetch_progress: FetchProgress | None = None
) -> dict[str, Baseline]:
    """All baselines by name, from the cheapest to the dearest.

    Those with a backbone find its weights when they are first asked to embed, and then raise
    :class:`~training.backbones.weights.WeightsUnavailable` where there are none.

    Args:
        weights_cache: folder of converted ImageNet weights.
        limits: what a photo may be.
        fetch_progress: called as ``fetch_progress(what, done, total)`` while weights are fetched.
    """

    def pooled(name: str) -> Callable[[Sequence[Path], Progress | None], np.ndarray]:
        def embed(paths: Sequence[Path], progress: Progress | None = None) -> np.ndarray:
            from training.backbones.weights import find_weights

            return embed_by_backbone(
                find_weights(name, weights_cache, progress=fetch_progress), paths, progress, limits
            )

        return embed

    found = (
        Baseline(
            "colour", "colour histogram (Lab)", lambda paths, progress=None: embed_by_colour(paths, progress, limits)
        ),
        Baseline("efficientnet_lite0", "EfficientNet-Lite0, pooled", pooled("efficientnet_lite0")),
        Baseline("vgg16", "VGG16 block5, pooled", pooled("vgg16")),
    )
    return {baseline.name: baseline for baseline in found}


@functools.cache
def _to_lab() -> ImageCms.ImageCmsTransform:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
