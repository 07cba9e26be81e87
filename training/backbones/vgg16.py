"""VGG16 without its top (Simonyan and Zisserman, arXiv 1409.1556, configuration D)."""

from __future__ import annotations

import keras

# Convolutions and filters of each block.
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
TAPS = tuple(f"block{number}_pool" for number in range(1, 6))
CONVOLUTIONS = tuple(
    f"block{block}_conv{number}"
    for block, (convolutions, _) in enumerate(BLOCKS, start=1)
    for number in range(1, convolutions + 1)
)


def filters(block: int, width: float = 1.0) -> int:
    """Number of filters of a block (1 to 5) in a net of the given relative width."""
    return max(1, round(BLOCKS[block - 1][1] * width))


def tap_filters(tap: str, width: float = 1.0) -> int:
    """Number of filters of a tap (``"block1_pool"`` ...)."""
    return filters(TAPS.index(tap) + 1, width)


def vgg16_blocks(pixels: keras.KerasTensor, width: float = 1.0) -> dict[str, keras.KerasTensor]:
    """Apply VGG16's five blocks.

    The layers carry the names that Keras itself gives them (``block1_conv1`` ... ``block5_pool``).

    Args:
        pixels: normalised images, ``(B, H, W, 3)``, with H and W of 32 or more.
        width: share of VGG16's filters; below 1 only for tests, since no pretrained weights fit.

    Returns:
        The output of each block by the name of its pooling layer; ``block5_pool`` is ``(B, H/32, W/32, 512)``.
    """
    taps = {}
    x = pixels
    for block, (convolutions, _) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            x = keras.layers.Conv2D(
                filters(block, width), 3, padding="same", activation="relu", name=f"block{block}_conv{number}"
            )(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        taps[f"block{block}_pool"] = x
    return taps


def vgg16(size: int | None = None, width: float = 1.0) -> keras.Model:
    """VGG16's convolutions alone, as a model from normalised images to ``block5_pool``.

    Args:
        size: side of the square input in pixels; ``None`` for any.
        width: share of VGG16's filters.
    """
    pixels = keras.Input((size, size, 3), name="pixels")
    return keras.Model(pixels, vgg16_blocks(pixels, width)["block5_pool"], name="vgg16")
