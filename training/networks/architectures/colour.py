"""The colours of a photo as one more tap: a histogram in CIELAB, computed from the pixels inside the network.

MILDNet's early blocks see colour, but pooled over the whole photo and mixed with texture. A histogram says it outright,
needs no training, and costs a thousandth of a backbone. It is
:func:`shop_similarity.training.triplets.scorers.lab_histogram` written for tensors: bins are filled by a product of
matrices, which needs no scattered writes and is compiled as any other layer.
"""

from __future__ import annotations

from math import prod
from typing import Any

import keras
import numpy as np

from shop_similarity.training.networks import lab

# The tap's name beside those of the backbone.
COLOUR = "colour"
LENGTH = prod(lab.BINS)


@keras.saving.register_keras_serializable(package="shop_similarity")
class LabHistogram(keras.layers.Layer):
    """Colours of what stands out from the background.

    Photos ``(B, H, W, 3)``, RGB, 0..255, become ``(B, 486)`` of length 1: square roots of shares, so that a dot product
    is the Bhattacharyya coefficient. There are no weights. Each pixel counts by how far its colour is from that of the
    photo's border; each is shared among the eight bins around its colour.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trainable = False

    def build(self, input_shape: tuple) -> None:
        self._rows, self._columns = (
            _averaging(side, min(lab.SIDE, side)).astype(np.float32) for side in input_shape[1:3]
        )

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        ops = keras.ops
        small = ops.einsum("ih,bhwc->biwc", self._rows, inputs)
        small = ops.einsum("jw,biwc->bijc", self._columns, small)
        colours = _lab(small)
        height, width = colours.shape[1:3]
        border = ops.concatenate([colours[:, 0], colours[:, -1], colours[:, :, 0], colours[:, :, -1]], axis=1)
        middle = height + width
        ground = ops.mean(ops.sort(border, axis=1)[:, middle - 1 : middle + 1], axis=1)
        distance = ops.sqrt(ops.sum(ops.square(colours - ground[:, None, None]), axis=-1))
        weights = ops.reshape(ops.clip(distance / lab.FAR, lab.LEAST, 1.0), (-1, height * width, 1))
        low, high, bins = (np.array(values, np.float32) for values in (lab.LOW, lab.HIGH, lab.BINS))
        places = ops.reshape((colours - low) / (high - low) * bins - 0.5, (-1, height * width, 3))
        light, red, yellow = (_shares(places[..., axis], count) for axis, count in enumerate(lab.BINS))
        pairs = ops.reshape(
            (light * weights)[..., :, None] * red[..., None, :], (-1, height * width, lab.BINS[0] * lab.BINS[1])
        )
        histogram = ops.matmul(ops.transpose(pairs, (0, 2, 1)), yellow)
        histogram = ops.reshape(histogram, (-1, LENGTH))
        return ops.sqrt(histogram / ops.sum(histogram, axis=-1, keepdims=True))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], LENGTH)


def _averaging(size: int, count: int) -> np.ndarray:
    """``(count, size)``: means over ``count`` equal parts of ``size`` pixels."""
    edges = np.linspace(0, size, count + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return overlap.clip(0) * count / size


def _lab(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """``(..., 3)`` CIELAB of sRGB 0..255."""
    ops = keras.ops
    values = ops.clip(pixels / 255.0, 0.0, 1.0)
    linear = ops.where(values <= 0.04045, values / 12.92, ops.power((values + 0.055) / 1.055, 2.4))
    xyz = ops.matmul(linear, (lab.RGB_TO_XYZ / lab.WHITE).astype(np.float32))
    bend = 6 / 29
    root = ops.where(xyz > bend**3, ops.power(ops.maximum(xyz, 1e-6), 1 / 3), xyz / (3 * bend**2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return ops.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _shares(places: keras.KerasTensor, count: int) -> keras.KerasTensor:
    """``(B, P)`` places among bins to ``(B, P, count)``: shares of the two nearest bins, all of it in an outer one."""
    inside = keras.ops.clip(places, 0.0, count - 1.0)
    return keras.ops.relu(1.0 - keras.ops.abs(inside[..., None] - np.arange(count, dtype=np.float32)))
