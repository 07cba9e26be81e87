"""Who carries VGG19's ImageNet weights: Keras itself. Where its host is out of reach, VGG16's take their place.

VGG19 is VGG16 with one more convolution at the end of blocks 3, 4 and 5. Chen, Goodfellow and Shlens ("Net2Net",
arXiv 1511.05641, section 2.4) deepen a network by a layer that starts as the identity: behind a ReLU no number is
negative, so a kernel that copies its centre, without a bias, changes nothing. A VGG19 made so gives VGG16's features
exactly, until training changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from shop_similarity.training.networks.backbones import vgg16_sources
from shop_similarity.training.networks.backbones.sources import (
    CAFFE_MEAN,
    CAFFE_STD,
    KERAS_HOST,
    Pretrained,
    Progress,
    keras_download,
    read_keras_layers,
)
from shop_similarity.training.networks.backbones.vgg19 import CONVOLUTIONS, EXTRA

KERAS_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
KERAS_URL = f"{KERAS_HOST}vgg19/{KERAS_FILE}"
KERAS_MD5 = "253f8cb515780f3b799900260a226db6"

FILES = (
    f"the HDF5 file of keras.applications.VGG19, or the source archive of {vgg16_sources.PACKAGE} (VGG16's, deepened)"
)
ADVICE = f"Fetch {KERAS_FILE} (Keras) on another machine"


def from_keras_file(path: Path, source: str | None = None) -> Pretrained:
    """Read the HDF5 file of ``keras.applications.VGG19`` (with or without its top).

    Its first kernel expects blue, green, red; it is turned to RGB here, once.

    Raises:
        SourceError: if the file is not that.
    """
    source = source or f"the file {path.name}"
    layers = read_keras_layers(path, CONVOLUTIONS, "VGG19", source)
    kernel, bias = layers["block1_conv1"]
    layers["block1_conv1"] = (np.ascontiguousarray(kernel[:, :, ::-1, :]), bias)
    return Pretrained(layers, CAFFE_MEAN, CAFFE_STD, source)


def from_keras_host(progress: Progress, url: str = KERAS_URL, md5: str = KERAS_MD5, timeout: float = 5) -> Pretrained:
    """Download Keras's own ``imagenet`` weights, or take the copy that Keras keeps in the user's home.

    Raises:
        SourceError: if the host does not answer or the file is not the published one.
    """
    with keras_download("VGG19", url, md5, progress, timeout) as (path, source):
        return from_keras_file(path, source)


def deepen_vgg16(vgg16: Pretrained) -> Pretrained:
    """VGG19 that gives VGG16's features: its thirteen convolutions, and three that start as the identity."""
    return Pretrained(
        {**vgg16.layers, **identity_convolutions(EXTRA)},
        vgg16.mean,
        vgg16.std,
        f"VGG16's weights from {vgg16.source}, deepened to VGG19 by three identity convolutions (Net2Net); "
        "these are not VGG19's own ImageNet weights",
    )


def identity_convolutions(filters: Mapping[str, int]) -> dict[str, Sequence[np.ndarray]]:
    """Kernels ``(3, 3, n, n)`` that copy their centre, and biases of 0.

    Args:
        filters: the number n of each layer.
    """
    layers: dict[str, Sequence[np.ndarray]] = {}
    for name, count in filters.items():
        kernel = np.zeros((3, 3, count, count), np.float32)
        kernel[1, 1] = np.eye(count)
        layers[name] = (kernel, np.zeros(count, np.float32))
    return layers


def from_file(path: Path) -> Pretrained | None:
    """Read a file that the user names: one that carries VGG16's weights; ``None`` if it is of no known kind.

    Raises:
        SourceError: if it is of a known kind and cannot be read.
    """
    vgg16 = vgg16_sources.from_file(path)
    return vgg16 and deepen_vgg16(vgg16)


REMOTE = (from_keras_host,)
