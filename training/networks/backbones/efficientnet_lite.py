"""EfficientNet-Lite without its top: EfficientNet (Tan and Le, arXiv 1905.11946, table 1) for small devices.

The Lite form leaves out squeeze-and-excitation and has ReLU6 in place of swish. Lite0 has about a fortieth of VGG16's
multiplications. The larger ones have more filters and more repeats of each block; the stem and the last convolution
keep their 32 and 1280 filters, the first and the last block their one repeat.

Padding is TensorFlow's ``same`` (at stride 2 one more pixel right and below than left and above), with which the
published weights were trained; symmetric padding shifts every position and fails silently.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from string import ascii_lowercase
from typing import NamedTuple

import keras

STEM_FILTERS = 32
TOP_FILTERS = 1280
EPSILON = 1e-3
# Filters are rounded to a multiple of this.
_STEP = 8
# A block ends in a linear projection.
SIGNED_TAPS = frozenset(f"block{number}" for number in range(1, 8))
TAPS = ("stem", *(f"block{number}" for number in range(1, 8)), "top")
# One of each resolution from 56 x 56 down, and the top.
DEFAULT_TAPS = ("block2", "block3", "block5", "block7", "top")


class Block(NamedTuple):
    """Inverted residuals in a row, the first with the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


# EfficientNet-B0's.
BLOCKS = (
    Block(1, 3, 1, 1, 16),
    Block(2, 3, 2, 6, 24),
    Block(2, 5, 2, 6, 40),
    Block(3, 3, 2, 6, 80),
    Block(3, 5, 1, 6, 112),
    Block(4, 5, 2, 6, 192),
    Block(1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class EfficientNetLite:
    """One of the family.

    Attributes:
        width: factor of the blocks' filters, before they are rounded.
        depth: factor of the blocks' repeats, before they are rounded up.
        size: side in pixels of the photos that its published weights were trained on.
    """

    width: float
    depth: float
    size: int

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The seven blocks at this width and depth."""
        ends = (BLOCKS[0], BLOCKS[-1])
        return tuple(
            block._replace(
                repeats=block.repeats if block in ends else math.ceil(self.depth * block.repeats),
                filters=_rounded(self.width * block.filters),
            )
            for block in BLOCKS
        )

    @property
    def tap_layers(self) -> dict[str, str]:
        """The taps from input to output, each with the layer whose output it is."""
        ends = {}
        for number, block in enumerate(self.blocks, start=1):
            last = f"block{number}{ascii_lowercase[block.repeats - 1]}"
            ends[f"block{number}"] = f"{last}_add" if block.repeats > 1 else f"{last}_project_bn"
        return {"stem": "stem_activation", **ends, "top": "top_activation"}

    def filters(self, tap: str, width: float = 1.0) -> int:
        """Number of filters of a tap; ``width`` is a share of them, below 1 only for tests."""
        full = {"stem": STEM_FILTERS, "top": TOP_FILTERS}.get(tap)
        if full is None:
            full = self.blocks[TAPS.index(tap) - 1].filters
        return max(1, round(full * width))

    def apply(self, pixels: keras.KerasTensor, width: float = 1.0, prefix: str = "") -> dict[str, keras.KerasTensor]:
        """Add the network to a graph.

        The layers carry the names that Keras gives those of EfficientNet-B0 (``stem_conv``, ``block2a_expand_conv`` ...
        ``top_activation``).

        Args:
            pixels: normalised images, ``(B, H, W, 3)``, with H and W of 32 or more.
            width: share of the filters; below 1 only for tests, since no pretrained weights fit.
            prefix: of the layers' names.

        Returns:
            The output of each stage by the name of its tap, of Lite0 for 224 pixels: ``stem`` ``(B, 112, 112, 32)``,
            ``block1`` ``(B, 112, 112, 16)``, ``block2`` ``(B, 56, 56, 24)``, ``block3`` ``(B, 28, 28, 40)``, ``block4``
            ``(B, 14, 14, 80)``, ``block5`` ``(B, 14, 14, 112)``, ``block6`` ``(B, 7, 7, 192)``, ``block7``
            ``(B, 7, 7, 320)``, ``top`` ``(B, 7, 7, 1280)``. The blocks' outputs are linear and so may be negative; the
            stem's and the top's lie between 0 and 6.
        """
        x = _convolution(pixels, self.filters("stem", width), 3, 2, f"{prefix}stem")
        taps = {"stem": x}
        for number, block in enumerate(self.blocks, start=1):
            tap = f"block{number}"
            for repeat in range(block.repeats):
                name = f"{prefix}{tap}{ascii_lowercase[repeat]}"
                stride = block.stride if repeat == 0 else 1
                x = _inverted_residual(
                    x, block.kernel, stride, block.expansion, self.filters(tap, width), name, repeat > 0
                )
            taps[tap] = x
        taps["top"] = _convolution(x, self.filters("top", width), 1, 1, f"{prefix}top")
        return taps


LITE0 = EfficientNetLite(width=1.0, depth=1.0, size=224)
LITE2 = EfficientNetLite(width=1.1, depth=1.2, size=260)


def _inverted_residual(
    x: keras.KerasTensor, kernel: int, stride: int, expansion: int, out: int, name: str, residual: bool
) -> keras.KerasTensor:
    """Sandler et al., arXiv 1801.04381, section 3.4: expand, filter each channel, project linearly."""
    inputs = x
    if expansion != 1:
        x = _convolution(x, expansion * inputs.shape[-1], 1, 1, f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_dwconv")(x)
    x = keras.layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
    x = keras.layers.ReLU(6.0, name=f"{name}_activation")(x)
    x = keras.layers.Conv2D(out, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = keras.layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_project_bn")(x)
    return keras.layers.Add(name=f"{name}_add")([x, inputs]) if residual else x


def _convolution(x: keras.KerasTensor, out: int, kernel: int, stride: int, name: str) -> keras.KerasTensor:
    x = keras.layers.Conv2D(out, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_activation")(x)


def _rounded(filters: float) -> int:
    """The nearest multiple of eight, and the next one if that takes away more than a tenth."""
    near = max(_STEP, int(filters + _STEP / 2) // _STEP * _STEP)
    return near if near >= 0.9 * filters else near + _STEP
