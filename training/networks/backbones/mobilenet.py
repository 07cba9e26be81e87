"""MobileNet, the first one, without its top (Howard et al., arXiv 1704.04861, table 1)."""

from __future__ import annotations

import keras

# Stride and filters of the thirteen pairs of a depthwise and a pointwise convolution.
PAIRS = (
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (2, 1024),
    (1, 1024),
)
STEM_FILTERS = 32
# The last pair of each resolution, and the layer whose output that is.
TAP_LAYERS = {f"pair{number}": f"conv_pw_{number}_relu" for number in (1, 3, 5, 11, 13)}


def filters(tap: str, width: float = 1.0) -> int:
    """Number of filters of a tap in a net of the given relative width."""
    return _scaled(PAIRS[int(tap.removeprefix("pair")) - 1][1], width)


def mobilenet_taps(pixels: keras.KerasTensor, width: float = 1.0, prefix: str = "") -> dict[str, keras.KerasTensor]:
    """Apply MobileNet.

    The layers carry the names that Keras itself gives them (``conv1``, ``conv_dw_1`` ... ``conv_pw_13_relu``).

    Args:
        pixels: normalised images, ``(B, H, W, 3)``, with H and W of 32 or more.
        width: share of the filters; below 1 only for tests.
        prefix: of the layers' names.

    Returns:
        The output of the last pair of each resolution, for 224 pixels: ``pair1`` ``(B, 112, 112, 64)``, ``pair3``
        ``(B, 56, 56, 128)``, ``pair5`` ``(B, 28, 28, 256)``, ``pair11`` ``(B, 14, 14, 512)``, ``pair13``
        ``(B, 7, 7, 1024)``; all between 0 and 6.
    """
    stem = f"{prefix}conv1"
    x = keras.layers.Conv2D(_scaled(STEM_FILTERS, width), 3, 2, padding="same", use_bias=False, name=stem)(pixels)
    x = keras.layers.BatchNormalization(name=f"{stem}_bn")(x)
    x = keras.layers.ReLU(6.0, name=f"{stem}_relu")(x)
    taps = {}
    for number, (stride, count) in enumerate(PAIRS, start=1):
        padding = "same"
        if stride == 2:
            # Keras pads right and below whatever the size; "same" would do otherwise for odd ones.
            x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{prefix}conv_pad_{number}")(x)
            padding = "valid"
        depthwise, pointwise = (f"{prefix}conv_{kind}_{number}" for kind in ("dw", "pw"))
        x = keras.layers.DepthwiseConv2D(3, stride, padding=padding, use_bias=False, name=depthwise)(x)
        x = keras.layers.BatchNormalization(name=f"{depthwise}_bn")(x)
        x = keras.layers.ReLU(6.0, name=f"{depthwise}_relu")(x)
        x = keras.layers.Conv2D(_scaled(count, width), 1, use_bias=False, name=pointwise)(x)
        x = keras.layers.BatchNormalization(name=f"{pointwise}_bn")(x)
        x = keras.layers.ReLU(6.0, name=f"{pointwise}_relu")(x)
        if f"pair{number}" in TAP_LAYERS:
            taps[f"pair{number}"] = x
    return taps


def _scaled(full: int, width: float) -> int:
    return max(1, round(full * width))
