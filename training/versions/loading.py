"""From a stored model version back to the model: rebuilt by its code, its weights checked before they are opened."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.files import file_sha256, replacement

if TYPE_CHECKING:
    import keras

    from shop_similarity.models import ModelVersion

_PIECE = 1 << 20
_SUFFIX = ".weights.h5"


class WeightsError(TrainingError):
    """The weights of a model version are missing, damaged or of another model; the sentence says what to do."""


def load_version(version: ModelVersion, cache_dir: str | Path | None = None) -> keras.Model:
    """Build a version's model and load its weights.

    The file's sha256 is compared before anything interprets it. Weights in a remote storage are copied to
    ``cache_dir`` once, under their sha256, and only the copy is read later. The backbone follows Keras's dtype policy.

    Args:
        version: a stored version.
        cache_dir: folder that keeps copies of remote weights; without one, a copy lives no longer than this call.

    Raises:
        WeightsError: if the weights cannot be used.
    """
    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.preprocessing import Preprocessing
    from shop_similarity.training.networks.weights_files import WeightsFileError, load_checked

    try:
        model = build(version.architecture, version.config, Preprocessing.from_dict(version.preprocessing))
    except ValueError as error:
        raise WeightsError(f"Model version {version.name} cannot be built: {error}") from error
    with _checked_file(version, Path(cache_dir) if cache_dir else None) as path:
        try:
            load_checked(model, path)
        except WeightsFileError as error:
            raise WeightsError(
                f"The weights of model version {version.name} can't be used, the file {version.weights.name}: {error}. "
                "Make a new version with calibrate_mildnet."
            ) from error
    return model


def fast_policy_of(version: ModelVersion) -> str:
    """The Keras dtype policy that a version's model computes fastest in on this machine.

    Raises:
        WeightsError: for an architecture or options that are not known here.
    """
    from shop_similarity.training.networks.architectures import trunk_of
    from shop_similarity.training.networks.precision import fast_policy

    try:
        return fast_policy(trunk_of(version.architecture, version.config))
    except ValueError as error:
        raise WeightsError(f"Model version {version.name} cannot be built: {error}") from error


@contextmanager
def _checked_file(version: ModelVersion, cache_dir: Path | None) -> Iterator[Path]:
    """A local file with the version's weights, whose sha256 is right."""
    try:
        local = Path(version.weights.path)
    except NotImplementedError:
        local = None
    # Keras tells formats apart by suffix; a storage that renamed the file may have broken it.
    if local is not None and local.name.endswith(_SUFFIX):
        try:
            _compare(file_sha256(local), version)
        except OSError as error:
            raise _missing(version, error) from error
        yield local
        return
    if cache_dir is None:
        with tempfile.TemporaryDirectory(prefix="shop-similarity-") as folder:
            yield _fetch(version, Path(folder))
        return
    cached = cache_dir / f"{version.weights_sha256}{_SUFFIX}"
    try:
        is_whole = cached.is_file() and file_sha256(cached) == version.weights_sha256
        path = cached if is_whole else _fetch(version, cache_dir)
    except OSError as error:
        raise WeightsError(
            f"The folder {cache_dir} can't keep copies of weights: {error}. Make it the worker's own, or name another "
            "one as WEIGHTS_CACHE."
        ) from error
    yield path


def _fetch(version: ModelVersion, folder: Path) -> Path:
    """Copy the weights out of the storage; the copy appears under its name only when it is whole and right."""
    path = folder / f"{version.weights_sha256}{_SUFFIX}"
    digest = hashlib.sha256()
    try:
        # It is compared with its sha256 whenever it is read.
        with replacement(path, mode=0o600, durable=False) as part:
            with part.open("wb") as copy:
                for piece in _pieces(version):
                    digest.update(piece)
                    copy.write(piece)
            _compare(digest.hexdigest(), version)
    except OSError as error:
        raise WeightsError(
            f"The weights of model version {version.name} can't be copied to {folder}: {error}. Make room there, or "
            "name another folder in WEIGHTS_CACHE."
        ) from error
    return path


def _pieces(version: ModelVersion) -> Iterator[bytes]:
    """The weights file, piece by piece."""
    try:
        with version.weights.storage.open(version.weights.name or "", "rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    except OSError as error:
        raise _missing(version, error) from error


def _compare(sha256: str, version: ModelVersion) -> None:
    if sha256 != version.weights_sha256:
        raise WeightsError(
            f"The weights file {version.weights.name} of model version {version.name} is not the one that was stored "
            "(its sha256 differs). Restore it from a backup or make a new version with calibrate_mildnet."
        )


def _missing(version: ModelVersion, error: Exception) -> WeightsError:
    return WeightsError(
        f"The weights file {version.weights.name} of model version {version.name} cannot be read: {error}. "
        "Restore it from a backup or make a new version with calibrate_mildnet."
    )
