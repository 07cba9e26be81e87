"""A real Celery worker process that a test can kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.waiting import PATIENCE

READY = " ready."


class CeleryWorker:
    """`celery -A shop_similarity.workers worker` in a session of its own, its output in a log file."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        env: dict[str, str],
        log: Path,
        *,
        app: str = "shop_similarity.workers",
        program: Sequence[str] = (sys.executable, "-m", "celery"),
    ) -> None:
        self.log_file = log
        self.command = " ".join(["celery", "-A", app, "worker", *arguments])
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*program, "-A", app, "worker", "--loglevel=INFO", *arguments],
                cwd=folder,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._everybody: dict[int, psutil.Process] = {}

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """All that the worker has said."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self, timeout: float = PATIENCE) -> None:
        """Wait until the worker takes tasks. Raises AssertionError with the end of its log if it does not."""
        self.wait_for(READY, timeout)

    def wait_for(self, text: str, timeout: float) -> None:
        """Wait until the log holds `text`. Raises AssertionError with the end of the log if it does not."""
        deadline = time.monotonic() + timeout
        while text not in self.log:
            assert self.process.poll() is None, f"The worker ended with {self.process.returncode}:\n{self.log[-4000:]}"
            assert time.monotonic() < deadline, f"No {text!r} within {timeout} s in:\n{self.log[-4000:]}"
            time.sleep(0.05)
        self._remember()

    def kill(self) -> None:
        """SIGKILL to the worker and the children it forked: nothing of it gets to tidy up."""
        self._remember()
        for process in self._everybody.values():
            _send(process, signal.SIGKILL)
        self.process.wait(timeout=30)

    def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM, Celery's warm shutdown; returns the exit status."""
        self._remember()
        self.process.terminate()
        return self.process.wait(timeout=timeout)

    def reap(self) -> None:
        """End whatever is left of the worker."""
        self._remember()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=20)
        for process in self._everybody.values():
            _send(process, signal.SIGKILL)

    def _remember(self) -> None:
        try:
            itself = psutil.Process(self.pid)
            for process in [itself, *itself.children(recursive=True)]:
                self._everybody[process.pid] = process
        except psutil.NoSuchProcess:
            pass


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)  # psutil looks whether it is still the same process
