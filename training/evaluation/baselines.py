"""What a model has to beat: colours, a hand-made score, and ImageNet's features as they are.

Each baseline takes paths of photos to ``(n, d)`` vectors whose cosine says how alike two photos are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from shop_similarity.photos.decoding import DEFAULT_LIMITS, ImageLimits
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.triplets import scorers
from shop_similarity.training.versions.embedding_files import Progress, embed_files, map_files

if TYPE_CHECKING:
    from shop_similarity.training.networks.backbones.weights import BackboneWeights

# Called as progress(what, done, total); total is 0 while unknown.
FetchProgress = Callable[[str, int, int], None]


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


def embed_by_colour(
    paths: Sequence[Path], progress: Progress | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> np.ndarray:
    """Lab histograms of photos in files (:func:`shop_similarity.training.triplets.scorers.lab_histogram`), ``(n,
    486)``.

    Raises:
        UnreadablePhotos: if some cannot be read.
    """

    def histogram(photo: Image.Image) -> np.ndarray:
        small = photo.resize((scorers.SIDE, scorers.SIDE), Image.Resampling.BOX, reducing_gap=3.0)
        return scorers.lab_histogram(np.asarray(small))

    return _stack(map_files(histogram, paths, limits, scorers.SIDE, progress))


def embed_by_hand(
    paths: Sequence[Path], progress: Progress | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> np.ndarray:
    """Colour, outline and texture of photos in files (:func:`shop_similarity.training.triplets.scorers.describe`),
    ``(n, d)``.

    Raises:
        UnreadablePhotos: if some cannot be read.
    """
    return _stack(map_files(scorers.describe, paths, limits, scorers.SIDE, progress))


def embed_by_backbone(
    weights: BackboneWeights,
    paths: Sequence[Path],
    progress: Progress | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    batch_size: int = 16,
) -> np.ndarray:
    """A pretrained backbone's last output, averaged over the positions: ``(n, 512)`` for VGG16.

    Photos are squashed to a square of the size that the weights were trained on. Nothing is trained, calibrated or
    normalised beyond that.

    Raises:
        UnreadablePhotos: if some cannot be read.
    """
    import keras

    from shop_similarity.training.networks.backbones.registry import get_backbone
    from shop_similarity.training.networks.precision import dtype_policy, fast_policy

    backbone = get_backbone(weights.backbone)
    preprocessing = Preprocessing(size=backbone.size, mean=weights.mean, std=weights.std)
    with dtype_policy(fast_policy(backbone.name)):
        pixels = keras.Input((preprocessing.size, preprocessing.size, 3), dtype="float32")
        x = keras.layers.Normalization(
            mean=list(preprocessing.mean), variance=[value**2 for value in preprocessing.std], dtype="float32"
        )(pixels)
        x = backbone.apply(x)[backbone.taps[-1]]
        model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D(dtype="float32")(x))
    weights.apply(model)
    return embed_files(model, paths, preprocessing, batch_size, progress, limits)


def baselines(
    weights_cache: Path, limits: ImageLimits = DEFAULT_LIMITS, fetch_progress: FetchProgress | None = None
) -> dict[str, Baseline]:
    """All baselines by name, from the cheapest to the dearest.

    Those with a backbone find its weights when they are first asked to embed, and then raise
    :class:`~shop_similarity.training.networks.backbones.weights.WeightsUnavailable` where there are none.

    Args:
        weights_cache: folder of converted ImageNet weights.
        limits: what a photo may be.
        fetch_progress: called as ``fetch_progress(what, done, total)`` while weights are fetched.
    """

    def pooled(name: str, title: str) -> Baseline:
        def embed(paths: Sequence[Path], progress: Progress | None = None) -> np.ndarray:
            from shop_similarity.training.networks.backbones.weights import find_weights

            return embed_by_backbone(
                find_weights(name, weights_cache, progress=fetch_progress), paths, progress, limits
            )

        return Baseline(name, title, embed)

    known = (
        Baseline("colour", "colour histogram", partial(embed_by_colour, limits=limits)),
        Baseline("handmade", "hand-made score", partial(embed_by_hand, limits=limits)),
        pooled("efficientnet_lite0", "EfficientNet-Lite0, pooled"),
        pooled("efficientnet_lite2", "EfficientNet-Lite2, pooled"),
        pooled("vgg16", "VGG16 block5, pooled"),
    )
    return {baseline.name: baseline for baseline in known}


def _stack(rows: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack(list(rows)).astype(np.float32)
