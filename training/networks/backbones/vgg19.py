"""VGG19 without its top (Simonyan and Zisserman, arXiv 1409.1556, configuration E)."""

from __future__ import annotations

import keras

from shop_similarity.training.networks.backbones.vgg import convolution_names, vgg_blocks

BLOCKS = (2, 2, 4, 4, 4)
CONVOLUTIONS = convolution_names(BLOCKS)
# What VGG19 has and VGG16 has not, and the filters of each.
EXTRA = {"block3_conv4": 256, "block4_conv4": 512, "block5_conv4": 512}


def vgg19_blocks(pixels: keras.KerasTensor, width: float = 1.0, prefix: str = "") -> dict[str, keras.KerasTensor]:
    """Apply VGG19's sixteen convolutions; see :func:`~shop_similarity.training.networks.backbones.vgg.vgg_blocks`."""
    return vgg_blocks(pixels, BLOCKS, width, prefix)
