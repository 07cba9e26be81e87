"""VGG16 without its top (Simonyan and Zisserman, arXiv 1409.1556, configuration D)."""

from __future__ import annotations

import keras

from shop_similarity.training.networks.backbones.vgg import FILTERS, convolution_names, vgg_blocks

# Convolutions and filters of each block.
BLOCKS = tuple(zip((2, 2, 3, 3, 3), FILTERS, strict=True))
CONVOLUTIONS = convolution_names([count for count, _ in BLOCKS])


def vgg16_blocks(pixels: keras.KerasTensor, width: float = 1.0, prefix: str = "") -> dict[str, keras.KerasTensor]:
    """Apply VGG16's thirteen convolutions; see :func:`~shop_similarity.training.networks.backbones.vgg.vgg_blocks`."""
    return vgg_blocks(pixels, [count for count, _ in BLOCKS], width, prefix)
