"""Storages that misbehave in the workers while a fault is on; the shop's own processes find them in order."""

from __future__ import annotations

import errno
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

from django.core.files.storage import FileSystemStorage

# Set in the environment of workers.
IN_WORKER = "CHAOS_WORKER"
EVERY = 5
# So that a batch takes long enough to be hit in the middle.
READ_SECONDS = 0.02

_reads = itertools.count(1)


def switch(name: str) -> Path:
    """The file whose presence says that a fault is on."""
    return Path(os.environ["SHOP_DATA"]) / f"fault-{name}"


def is_on(name: str) -> bool:
    return IN_WORKER in os.environ and switch(name).exists()


class ShopStorage(FileSystemStorage):
    """Files are replaced under their names; every fifth read of a worker fails while the fault is on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_overwrite=True, **kwargs)

    def _open(self, name: str, mode: str = "rb") -> Any:
        if IN_WORKER in os.environ:
            time.sleep(READ_SECONDS)
            if is_on("storage") and next(_reads) % EVERY == 0:
                raise ConnectionResetError(errno.ECONNRESET, "the storage hung up")
        return super()._open(name, mode)


class WeightsStorage(FileSystemStorage):
    """As a remote storage it has no paths, so that workers keep a copy of the weights."""

    def path(self, name: str) -> str:
        raise NotImplementedError("This storage has no paths.")

    def _local(self, name: str) -> FileSystemStorage:
        return FileSystemStorage(self.base_location, self.base_url)

    def _open(self, name: str, mode: str = "rb") -> Any:
        return self._local(name)._open(name, mode)

    def _save(self, name: str, content: Any) -> str:
        return self._local(name)._save(name, content)

    def delete(self, name: str) -> None:
        self._local(name).delete(name)

    def exists(self, name: str) -> bool:
        return self._local(name).exists(name)


def fill_disk_of(folder: Path) -> None:
    """Have this process find no room for a file in the folder while the fault ``disk`` is on."""

    def refuse(event: str, arguments: tuple) -> None:
        if event != "open" or not isinstance(arguments[0], str) or not arguments[0].startswith(f"{folder}{os.sep}"):
            return
        # Opened to write by open(), or by os.open().
        writes = "w" in arguments[1] if arguments[1] else arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes and is_on("disk"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), arguments[0])

    sys.addaudithook(refuse)
