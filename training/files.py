"""Files that are whole or not there at all: written beside their place, brought to the disk and renamed.

They are their owner's alone, for whoever trains may be root on a machine that others use.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

PART = ".part-"
"""How names begin of what is not whole yet."""


PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700


def private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone. One that is there stays as it is.

    Raises:
        OSError: it can't be made.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(_PRIVATE_FOLDER, exist_ok=True)


@contextmanager
def part_beside(path: Path, mode: int = PRIVATE) -> Iterator[Path]:
    """An empty file beside ``path`` to write to and to rename; gone at the end if it was not renamed.

    Its name ends as that of ``path``, for Keras tells formats apart by suffix.

    Args:
        path: its folder is made if it is missing.
        mode: of the file, less what the umask takes away.

    Raises:
        OSError: it can't be made.
    """
    private_folder(path.parent)
    part = path.with_name(f"{PART}{secrets.token_hex(4)}-{path.name}")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacement(path: Path, mode: int = PRIVATE, durable: bool = True) -> Iterator[Path]:
    """A file beside ``path`` to write to, which takes its place when the block ends without an exception.

    Args:
        path: its folder is made if it is missing.
        mode: of the file, less what the umask takes away.
        durable: whether it is brought to the disk before; a file that is checked when it is read need not be.

    Raises:
        OSError: it can't be written.
    """
    with part_beside(path, mode) as part:
        yield part
        if durable:
            with part.open("r+b") as file:
                sync(file)
        part.replace(path)


def write_atomically(path: Path, content: str | bytes, mode: int = PRIVATE, durable: bool = True) -> None:
    """Replace a file in one step; see :func:`replacement`. Text is written as UTF-8."""
    with replacement(path, mode, durable) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        OSError: if it can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by name. The archive's checksums are compared as each is read.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is not what ``np.savez`` writes: nothing pickled, and nothing compressed, for a few kilobytes
            can unpack to more than there is memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, KeyError, EOFError, MemoryError, OverflowError, SyntaxError, TypeError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    # Windows can't open folders.
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
