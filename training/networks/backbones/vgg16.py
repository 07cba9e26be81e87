"""VGG16 without its top (Simonyan and Zisserman, arXiv 1409.1556, configuration D)."""

from __future__ import annotations

import keras

from shop_similarity.training.networks.backbones.vgg import FILTERS, convolution_names, vgg_blocks

# Convolutions and filters of each block.
BLOCKS = tuple(zip((2, 2, 3, 3, 3), FILTERS, strict=True))
CONVOLUTIONS = convolution_names([count for count, _ in BLOCKS])


def vgg16_blocks(pixels: keras.KerasTensor, width: float = 1.0) -> dict[str, keras.KerasTensor]:
    """Apply VGG16's thirteen convolutions; see :func:`~shop_similarity.training.networks.backbones.vgg.vgg_blocks`."""
    return vgg_blocks(pixels, [count for count, _ in BLOCKS], width)


def vgg16(size: int | None = None, width: float = 1.0) -> keras.Model:
    """VGG16's convolutions alone, as a model from normalised images to ``block5_pool``.

    Args:
        size: side of the square input in pixels; ``None`` for any.
        width: share of VGG16's filters.
    """
    pixels = keras.Input((size, size, 3), name="pixels")
    return keras.Model(pixels, vgg16_blocks(pixels, width)["block5_pool"], name="vgg16")
