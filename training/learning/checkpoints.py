"""States of a training run on disk, each of them whole or not there at all.

A checkpoint is a folder: ``state.json`` with what a run has to know, ``arrays.npz`` with its variables. It is written
beside its place, brought to the disk and renamed, so that a process that is killed at any moment leaves the one before.
Nothing in it is pickled.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.files import private_folder, read_arrays, sync, sync_folder

_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?")
_PART = ".part-"


class CheckpointError(TrainingError):
    """A checkpoint that can't be read or written; the sentence says what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """One state, read back.

    Attributes:
        path: its folder.
        arrays: variables by name.
        state: plain JSON values.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]


def name_of(epoch: int, step: int = 0) -> str:
    """Name of the checkpoint after ``epoch`` whole epochs and ``step`` steps of the next one."""
    return f"epoch-{epoch:03d}" + (f"-step-{step:06d}" if step else "")


def save(folder: Path, name: str, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint; one of the same name is replaced.

    Raises:
        CheckpointError: if the disk has no room or the folder can't be written.
    """
    part = None
    try:
        private_folder(folder)
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=folder))
        with (part / "arrays.npz").open("wb") as file:
            named: dict[str, Any] = dict(arrays)
            np.savez(file, **named)
            sync(file)
        with (part / "state.json").open("w", encoding="utf-8") as file:
            json.dump(dict(state), file, allow_nan=False)
            sync(file)
        target = folder / name
        # No rename replaces a folder that holds something. Killed in between, the run goes on from the one before.
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
        sync_folder(folder)
        return target
    except OSError as error:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint {name} can't be written to {folder}: {error.strerror or error}. Make room or make the "
            "folder writable, then go on with --resume."
        ) from error


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None if there is none. Damaged ones are passed over."""
    for path in _newest_first(folder):
        try:
            return load(path)
        except CheckpointError:
            continue
    return None


def states(folder: Path) -> list[dict[str, Any]]:
    """The states of all checkpoints, the newest first, without their variables. Damaged ones are passed over."""
    found = []
    for path in _newest_first(folder):
        try:
            found.append(_state(path))
        except CheckpointError:
            continue
    return found


def newest_state(folder: Path) -> dict[str, Any]:
    """The first of :func:`states`.

    Raises:
        CheckpointError: there is none.
    """
    found = states(folder)
    if not found:
        raise CheckpointError(f"There is no checkpoint in {folder}: no epoch was finished. Go on with --resume.")
    return found[0]


def load(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        CheckpointError: if it is not whole, or holds numbers that are not finite.
    """
    state = _state(path)
    try:
        arrays = read_arrays(path / "arrays.npz")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {path} can't be read: {error}.") from error
    if names := not_finite(arrays):
        raise CheckpointError(f"The checkpoint {path} can't be used: {names[0]} holds numbers that are not finite.")
    return Checkpoint(path, arrays, state)


def _state(path: Path) -> dict[str, Any]:
    try:
        with (path / "state.json").open(encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"The checkpoint {path} can't be read: {error}.") from error


def not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the variables that hold numbers that are not finite."""
    return [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]


def prune(folder: Path, keep: int) -> None:
    """Delete all but the ``keep`` newest checkpoints; 0 keeps all. What killed writers left goes."""
    for part in folder.glob(f"{_PART}*"):
        shutil.rmtree(part, ignore_errors=True)
    for path in _newest_first(folder)[keep:] if keep else ():
        shutil.rmtree(path, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    paths = [path for path in folder.glob("epoch-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(paths, key=_place, reverse=True)


def _place(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)
