"""U2-Net-p (Qin and others, arXiv 2005.09007): a photo to how much each of its pixels stands out from the rest.

A U of eleven blocks, each of which is a small U itself (section 3.1). The small form has 64 channels between the blocks
and 16 within them. The published weights have batch normalisation folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import keras

from shop_similarity.training.networks.saliency.weights import MEAN, SIZE, STD

_INNER, _OUTER = 16, 64


@dataclass(frozen=True)
class _Block:
    """A residual U.

    Attributes:
        name: what its layers' names begin with.
        height: its convolutions on the way down, the last of which is dilated.
        flat: nothing is made smaller; convolutions are dilated instead.
    """

    name: str
    height: int
    flat: bool = False


_DOWN = (
    _Block("stage1", 7),
    _Block("stage2", 6),
    _Block("stage3", 5),
    _Block("stage4", 4),
    _Block("stage5", 4, flat=True),
    _Block("stage6", 4, flat=True),
)
_UP = (
    _Block("stage5d", 4, flat=True),
    _Block("stage4d", 4),
    _Block("stage3d", 5),
    _Block("stage2d", 6),
    _Block("stage1d", 7),
)


def layer_names() -> Iterator[str]:
    """The names of the convolutions of the blocks, in the order in which a photo goes through them."""
    for block in (*_DOWN, *_UP):
        yield f"{block.name}_in"
        yield from (f"{block.name}_{place}" for place in range(1, block.height + 1))
        yield from (f"{block.name}_{place}d" for place in range(block.height - 1, 0, -1))


def build(size: int = SIZE) -> keras.Model:
    """The network with fresh weights.

    ``(B, size, size, 3)``, RGB, any range, become ``(B, size, size)``, 0 to 1. ``size`` is divisible by 32.
    """
    photos = keras.Input((size, size, 3), dtype="float32", name="photos")
    brightest = keras.ops.maximum(keras.ops.max(photos, axis=(1, 2, 3), keepdims=True), 1e-6)
    x = keras.layers.Normalization(mean=MEAN, variance=[value**2 for value in STD], name="pixels")(photos / brightest)
    outputs = []
    for place, block in enumerate(_DOWN):
        x = _residual_u(x if place == 0 else _half(x), block)
        outputs.append(x)
    sides = [outputs.pop()]
    for block in _UP:
        skipped = outputs.pop()
        sides.append(_residual_u(keras.ops.concatenate([_like(sides[-1], skipped), skipped], axis=-1), block))
    maps = [
        _like(keras.layers.Conv2D(1, 3, padding="same", name=f"side{place}")(side), photos)
        for place, side in enumerate(reversed(sides), start=1)
    ]
    joined = keras.layers.Conv2D(1, 1, name="outconv")(keras.ops.concatenate(maps, axis=-1))
    return keras.Model(photos, keras.ops.sigmoid(joined)[..., 0], name="u2netp")


def _residual_u(x: keras.KerasTensor, block: _Block) -> keras.KerasTensor:
    layer = partial(_convolution, block)
    start = x = layer(x, "in", _OUTER)
    down: list[keras.KerasTensor] = []
    for place in range(1, block.height):
        if place > 1 and not block.flat:
            x = _half(x)
        x = layer(x, str(place), _INNER, 2 ** (place - 1) if block.flat else 1)
        down.append(x)
    x = layer(x, str(block.height), _INNER, 2 ** (block.height - 1) if block.flat else 2)
    for place in range(block.height - 1, 0, -1):
        skipped = down.pop()
        x = keras.ops.concatenate([_like(x, skipped), skipped], axis=-1)
        x = layer(x, f"{place}d", _INNER if place > 1 else _OUTER, 2 ** (place - 1) if block.flat else 1)
    return start + x


def _convolution(block: _Block, x: keras.KerasTensor, name: str, filters: int, dilation: int = 1) -> keras.KerasTensor:
    return keras.layers.Conv2D(
        filters, 3, padding="same", dilation_rate=dilation, activation="relu", name=f"{block.name}_{name}"
    )(x)


def _half(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.MaxPooling2D(2)(x)


def _like(x: keras.KerasTensor, other: keras.KerasTensor) -> keras.KerasTensor:
    size = other.shape[1:3]
    return x if x.shape[1:3] == size else keras.ops.image.resize(x, size, interpolation="bilinear")
