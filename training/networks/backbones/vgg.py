"""The convolutions of the VGG networks (Simonyan and Zisserman, arXiv 1409.1556)."""

from __future__ import annotations

from collections.abc import Sequence

import keras

FILTERS = (64, 128, 256, 512, 512)
TAPS = tuple(f"block{number}_pool" for number in range(1, 6))


def convolution_names(convolutions: Sequence[int]) -> tuple[str, ...]:
    """The names that Keras gives the convolutions.

    Args:
        convolutions: their number in each of the five blocks.
    """
    return tuple(
        f"block{block}_conv{number}"
        for block, count in enumerate(convolutions, start=1)
        for number in range(1, count + 1)
    )


def filters(block: int, width: float = 1.0) -> int:
    """Number of filters of a block (1 to 5) in a net of the given relative width."""
    return max(1, round(FILTERS[block - 1] * width))


def tap_filters(tap: str, width: float = 1.0) -> int:
    """Number of filters of a tap (``"block1_pool"`` ...)."""
    return filters(TAPS.index(tap) + 1, width)


def vgg_blocks(
    pixels: keras.KerasTensor, convolutions: Sequence[int], width: float = 1.0, prefix: str = ""
) -> dict[str, keras.KerasTensor]:
    """Apply the five blocks.

    The layers carry the names that Keras itself gives them (``block1_conv1`` ... ``block5_pool``).

    Args:
        pixels: normalised images, ``(B, H, W, 3)``, with H and W of 32 or more.
        convolutions: their number in each block.
        width: share of the filters; below 1 only for tests, since no pretrained weights fit.
        prefix: of the layers' names.

    Returns:
        The output of each block by the name of its pooling layer without the prefix; ``block5_pool`` is
        ``(B, H/32, W/32, 512)``.
    """
    taps = {}
    x = pixels
    for block, count in enumerate(convolutions, start=1):
        for number in range(1, count + 1):
            name = f"{prefix}block{block}_conv{number}"
            x = keras.layers.Conv2D(filters(block, width), 3, padding="same", activation="relu", name=name)(x)
        x = keras.layers.MaxPooling2D(2, name=f"{prefix}block{block}_pool")(x)
        taps[f"block{block}_pool"] = x
    return taps
