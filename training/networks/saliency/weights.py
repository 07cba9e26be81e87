"""The weights of U2-Net-p: kept as they were published, compared with their sha256 at every use.

They are the authors' (https://github.com/xuebinqin/U-2-Net, Apache-2.0; trained on DUTS-TR), exported to ONNX.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.networks.saliency.onnx_file import OnnxError, read_initializers

if TYPE_CHECKING:
    import keras

SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
BYTES = 4_574_861
SIZE = 320
"""Side in pixels of the input that they were trained on."""

# torchvision's ImageNet constants, in parts of the brightest value of a photo.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

FILE_NAME = f"u2netp-{SHA256[:16]}.onnx"


class SaliencyUnavailable(TrainingError):
    """The weights of U2-Net-p are not here or not the known ones; the sentence says what to do."""


def read_weights(folder: Path) -> bytes:
    """The stored file, compared with the known sha256.

    Raises:
        SaliencyUnavailable: it is not there, or another one.
    """
    path = folder / FILE_NAME
    advice = "Run `manage.py fetch_u2net` on each machine with workers."
    try:
        with path.open("rb") as file:
            content = file.read(BYTES + 1)
    except OSError as error:
        raise SaliencyUnavailable(
            f"Objects are not looked for in shoppers' photos: {path} can't be read ({error.strerror}). {advice}"
        ) from error
    if not are_known(content):
        raise SaliencyUnavailable(
            f"Objects are not looked for in shoppers' photos: {path} is damaged (its sha256 differs). {advice}"
        )
    return content


def are_known(content: bytes) -> bool:
    """Whether these bytes are the published file."""
    return hashlib.sha256(content).hexdigest() == SHA256


def load(content: bytes) -> keras.Model:
    """The network with the weights in it.

    Args:
        content: as :func:`read_weights` gives it.

    Raises:
        SaliencyUnavailable: the arrays are not this network's.
    """
    from shop_similarity.training.networks.saliency import u2net

    model = u2net.build()
    try:
        for name, weights in keras_layers(read_initializers(content)).items():
            model.get_layer(name).set_weights(weights)
    except (OnnxError, ValueError) as error:
        raise SaliencyUnavailable(f"The file {FILE_NAME} does not hold U2-Net-p: {error}.") from error
    return model


def keras_layers(arrays: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name the arrays of the file by Keras's layers and turn their axes to Keras's order.

    The file names the last seven convolutions. The others, into which batch normalisation was folded, have numbers for
    names and stand in the order in which a photo goes through them, kernel before bias.

    Raises:
        ValueError: there are more or fewer than the network has.
    """
    from shop_similarity.training.networks.saliency.u2net import layer_names

    numbered = [array for name, array in arrays.items() if name.isdecimal()]
    layers = dict(zip(layer_names(), zip(numbered[::2], numbered[1::2], strict=True), strict=True))
    for name in arrays:
        if name.endswith(".weight"):
            layer = name.removesuffix(".weight")
            layers[layer] = arrays[name], arrays[f"{layer}.bias"]
    # out, in, height, width
    return {name: (kernel.transpose(2, 3, 1, 0), bias) for name, (kernel, bias) in layers.items()}
