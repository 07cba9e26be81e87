"""Jobs of a worker process: each runs in a thread of its own, so that none waits for another.

A drain may take days and a sweep of the files hours; what is due by the clock meanwhile begins beside them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from shop_similarity import database

logger = logging.getLogger(__name__)

# Set when this process is asked to end: every job stops after the step it is at.
stopping = threading.Event()

# After a failure the clock asks in vain for so long, then for twice as long each time.
_FIRST_REST_SECONDS = 5.0
_LONGEST_REST_SECONDS = 300.0


class Job:
    """Work that this process does now and then, one at a time.

    Args:
        name: of the thread, and in the log.
        work: does it, and stops after the step it is at when ``stopping`` is set.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.name = name
        self._work = work
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_wanted = False
        self._failures = 0
        self._not_before = 0.0
        self._complained = ""

    def do(self) -> None:
        """Do it here and now."""
        self._work()

    def begin(self) -> None:
        """Have it done in its thread; where that is at it already, once more after that. Returns at once."""
        with self._lock:
            if time.monotonic() < self._not_before or stopping.is_set():
                return
            self._is_wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"shop-similarity-{self.name}", daemon=True)
                self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait until its thread has come to its end, after ``stopping`` was set."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        try:
            while self._is_still_wanted():
                self._try()
        finally:
            database.close_connections()

    def _is_still_wanted(self) -> bool:
        with self._lock:
            is_wanted = self._is_wanted and not stopping.is_set()
            self._is_wanted = False
            if not is_wanted:
                # Under the lock, so that whoever wants it next starts another thread.
                self._thread = None
            return is_wanted

    def _try(self) -> None:
        try:
            with database.stored_language():
                self._work()
            self._failures, self._complained = 0, ""
        except Exception as error:
            # The database may be away for a while; the clock asks again. Say each trouble once.
            rest = min(_FIRST_REST_SECONDS * 2**self._failures, _LONGEST_REST_SECONDS)
            self._failures += 1
            self._not_before = time.monotonic() + rest
            if str(error) != self._complained:
                self._complained = str(error)
                logger.exception("The worker's job %r failed; it is tried again.", self.name)
            # The server may have ended the session; the next try opens another.
            database.close_connections()
