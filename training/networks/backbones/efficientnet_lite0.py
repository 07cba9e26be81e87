"""EfficientNet-Lite0 without its top: EfficientNet-B0 (Tan and Le, arXiv 1905.11946, table 1) for small devices.

The Lite form leaves out squeeze-and-excitation, has ReLU6 in place of swish, and keeps the stem and the last
convolution at 32 and 1280 filters. About a twelfth of VGG16's arithmetic.

Padding is TensorFlow's ``same`` (at stride 2 one more pixel right and below than left and above), with which the
published weights were trained; symmetric padding shifts every position and fails silently.
"""

from __future__ import annotations

import keras

# Repeats, kernel, stride, expansion and filters of each block.
BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_FILTERS = 32
TOP_FILTERS = 1280
EPSILON = 1e-3
# A block ends in a linear projection.
SIGNED_TAPS = frozenset(f"block{number}" for number in range(1, 8))
TAPS = ("stem", *(f"block{number}" for number in range(1, 8)), "top")


def _last_layer(block: int) -> str:
    repeats = BLOCKS[block - 1][0]
    return f"block{block}{'abcd'[repeats - 1]}_{'add' if repeats > 1 else 'project_bn'}"


# The layer whose output each tap is.
TAP_LAYERS = {
    "stem": "stem_activation",
    **{f"block{number}": _last_layer(number) for number in range(1, 8)},
    "top": "top_activation",
}


def filters(tap: str, width: float = 1.0) -> int:
    """Number of filters of a tap in a net of the given relative width."""
    full = {"stem": STEM_FILTERS, "top": TOP_FILTERS}.get(tap)
    if full is None:
        full = BLOCKS[TAPS.index(tap) - 1][-1]
    return _scaled(full, width)


def efficientnet_lite0_taps(pixels: keras.KerasTensor, width: float = 1.0) -> dict[str, keras.KerasTensor]:
    """Apply EfficientNet-Lite0.

    The layers carry the names that Keras gives those of EfficientNet-B0 (``stem_conv``, ``block2a_expand_conv`` ...
    ``top_activation``).

    Args:
        pixels: normalised images, ``(B, H, W, 3)``, with H and W of 32 or more.
        width: share of the filters; below 1 only for tests, since no pretrained weights fit.

    Returns:
        The output of each stage by the name of its tap, for 224 pixels: ``stem`` ``(B, 112, 112, 32)``,
        ``block1`` ``(B, 112, 112, 16)``, ``block2`` ``(B, 56, 56, 24)``, ``block3`` ``(B, 28, 28, 40)``, ``block4``
        ``(B, 14, 14, 80)``, ``block5`` ``(B, 14, 14, 112)``, ``block6`` ``(B, 7, 7, 192)``, ``block7``
        ``(B, 7, 7, 320)``, ``top`` ``(B, 7, 7, 1280)``. The blocks' outputs are linear and so may be negative; the
        stem's and the top's lie between 0 and 6.
    """
    x = _convolution(pixels, filters("stem", width), 3, 2, "stem_conv", "stem_bn", "stem_activation")
    taps = {"stem": x}
    for block, (repeats, kernel, stride, expansion, _) in enumerate(BLOCKS, start=1):
        tap = f"block{block}"
        for number in range(repeats):
            name = f"{tap}{'abcd'[number]}"
            x = _inverted_residual(x, kernel, stride if number == 0 else 1, expansion, filters(tap, width), name)
        taps[tap] = x
    taps["top"] = _convolution(x, filters("top", width), 1, 1, "top_conv", "top_bn", "top_activation")
    return taps


def _inverted_residual(
    x: keras.KerasTensor, kernel: int, stride: int, expansion: int, out: int, name: str
) -> keras.KerasTensor:
    """Sandler et al., arXiv 1801.04381, section 3.4: expand, filter each channel, project linearly."""
    inputs = x
    if expansion != 1:
        x = _convolution(
            x,
            expansion * inputs.shape[-1],
            1,
            1,
            f"{name}_expand_conv",
            f"{name}_expand_bn",
            f"{name}_expand_activation",
        )
    x = keras.layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_dwconv")(x)
    x = keras.layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
    x = keras.layers.ReLU(6.0, name=f"{name}_activation")(x)
    x = keras.layers.Conv2D(out, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = keras.layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_project_bn")(x)
    if stride == 1 and inputs.shape[-1] == out and not name.endswith("a"):
        x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _convolution(
    x: keras.KerasTensor, out: int, kernel: int, stride: int, conv: str, norm: str, activation: str
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(out, kernel, stride, padding="same", use_bias=False, name=conv)(x)
    x = keras.layers.BatchNormalization(epsilon=EPSILON, name=norm)(x)
    return keras.layers.ReLU(6.0, name=activation)(x)


def _scaled(full: int, width: float) -> int:
    return max(1, round(full * width))
