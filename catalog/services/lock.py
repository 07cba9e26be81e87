"""One start or stop of a server at a time, across processes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fasteners

from .errors import ServiceError

# A file lock of the system belongs to the whole process: it would let two threads in.
_threads = threading.Lock()


@contextmanager
def exclusive(path: Path, *, timeout: float, what: str) -> Iterator[None]:
    """Hold the lock file; the system frees it when its holder dies.

    Raises ServiceError if another process holds it for longer than `timeout` seconds.
    """
    with _threads:
        lock = fasteners.InterProcessLock(path)
        try:
            acquired = lock.acquire(timeout=timeout, delay=0.05, max_delay=0.2)
        except OSError as error:
            raise ServiceError(f"{path} cannot be locked: {error.strerror}. Is it another user's?") from error
        if not acquired:
            raise ServiceError(f"Another process has been starting or stopping {what} for {timeout:.0f} s. Try again.")
        try:
            yield
        finally:
            lock.release()
