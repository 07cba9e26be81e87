"""The shallow branches: what colour and texture say, from a shrunk photo and one convolution.

Every branch takes normalised pixels ``(B, H, W, 3)`` and returns ``(B, n)`` in ``float32``. At 224 pixels each of
RankNet's and Fynd's gives 1536 (4 x 4 x 96), each of VisNet's 2400 (5 x 5 x 96). Sizes from 32 pixels upwards work.
"""

from __future__ import annotations

import math

import keras

from shop_similarity.training.networks.architectures.parts import LocalResponseNormalization

FILTERS = 96


def filters(width: float) -> int:
    """Filters of each branch in a net of the given relative width."""
    return max(1, round(FILTERS * width))


def ranknet_branches(pixels: keras.KerasTensor, width: float = 1.0) -> list[keras.KerasTensor]:
    """RankNet's two (Sharma and Vishvakarma, arXiv 1901.03546, and the authors' code), linear.

    First: maximum of 4 x 4 (56), a border of 4 (64), convolution 8 x 8 at stride 4 (15), a border of 2 (19), maximum
    of 7 x 7 at stride 4 (4). Second: maximum of 8 x 8 (28), a border of 4 (36), the same convolution (8), a border of
    1 (10), maximum of 3 x 3 at stride 2 (4).
    """
    branches = []
    for number, (shrink, border, window, stride) in enumerate(((4, 2, 7, 4), (8, 1, 3, 2)), start=1):
        name = f"shallow{number}"
        x = keras.layers.MaxPooling2D(shrink, dtype="float32", name=f"{name}_shrink")(pixels)
        x = keras.layers.ZeroPadding2D(4, dtype="float32", name=f"{name}_border")(x)
        x = keras.layers.Conv2D(filters(width), 8, 4, dtype="float32", name=f"{name}_conv")(x)
        x = keras.layers.ZeroPadding2D(border, dtype="float32", name=f"{name}_conv_border")(x)
        x = keras.layers.MaxPooling2D(window, stride, dtype="float32", name=f"{name}_pool")(x)
        branches.append(keras.layers.Flatten(dtype="float32", name=f"{name}_flat")(x))
    return branches


def visnet_branches(pixels: keras.KerasTensor, width: float = 1.0) -> list[keras.KerasTensor]:
    """VisNet's two (Shankar et al., arXiv 1703.02344, and the authors' Caffe definition).

    Maximum of 4 x 4 (56) or 8 x 8 (28), convolution 8 x 8 at stride 4 with a border of 4 and ReLU (15 or 8), local
    response normalisation over 5 channels, maximum of 7 x 7 at stride 4 with a border of 3, or of 3 x 3 at stride 2
    with a border of 1 (5 either way). The maximum ends as Caffe's does, with a last window that may reach over the
    edge; behind a ReLU, zeros around change no maximum.
    """
    branches = []
    for number, (shrink, window, stride, border) in enumerate(((4, 7, 4, 3), (8, 3, 2, 1)), start=1):
        name = f"shallow{number}"
        x = keras.layers.MaxPooling2D(shrink, dtype="float32", name=f"{name}_shrink")(pixels)
        x = keras.layers.ZeroPadding2D(4, dtype="float32", name=f"{name}_border")(x)
        x = keras.layers.Conv2D(filters(width), 8, 4, activation="relu", dtype="float32", name=f"{name}_conv")(x)
        x = LocalResponseNormalization(dtype="float32", name=f"{name}_lrn")(x)
        side = x.shape[1]
        windows = math.ceil((side + 2 * border - window) / stride) + 1
        after = (windows - 1) * stride + window - side - border
        x = keras.layers.ZeroPadding2D(((border, after), (border, after)), dtype="float32", name=f"{name}_pool_border")(
            x
        )
        x = keras.layers.MaxPooling2D(window, stride, dtype="float32", name=f"{name}_pool")(x)
        branches.append(keras.layers.Flatten(dtype="float32", name=f"{name}_flat")(x))
    return branches


def fynd_branches(pixels: keras.KerasTensor, width: float = 1.0) -> list[keras.KerasTensor]:
    """The two of Fynd's VisNet (the code of arXiv 1903.00905), linear.

    Convolution 8 x 8 at stride 16 (14) and maximum of 3 x 3 at stride 4 (4); convolution 8 x 8 at stride 32 (7) and
    maximum of 7 x 7 at stride 2 (4); all padded as ``same``.
    """
    branches = []
    for number, (step, window, stride) in enumerate(((16, 3, 4), (32, 7, 2)), start=1):
        name = f"shallow{number}"
        x = keras.layers.Conv2D(filters(width), 8, step, padding="same", dtype="float32", name=f"{name}_conv")(pixels)
        x = keras.layers.MaxPooling2D(window, stride, padding="same", dtype="float32", name=f"{name}_pool")(x)
        branches.append(keras.layers.Flatten(dtype="float32", name=f"{name}_flat")(x))
    return branches
