"""The demo's child processes, all marked, so that none is left behind: not now, and not by a demo that was killed."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from catalog.services.password import open_log
from catalog.services.processes import end, wait_gone

MARK = "SHOP_DEMO_OF"
LOG_LIMIT = 5 * 1024 * 1024


def mark_children(data: Path) -> None:
    """Let every process that this one starts carry the mark of this shop in its environment.

    Unlike a file with process numbers, the mark is there from the first moment, is inherited by grandchildren, and
    cannot be mistaken for that of another process with the same number.
    """
    os.environ[MARK] = str(data)


def marked(data: Path) -> list[psutil.Process]:
    """Living processes, other than this one, that a demo of this shop started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(data):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def end_marked(data: Path, patience: float) -> int:
    """End whatever carries the mark; returns how many processes that were."""
    ended = 0
    # What is being ended may start something more.
    while (left := marked(data)) and ended < 1000:
        ended += len(left)
        end(left, patience=patience)
    return ended


class Child:
    """A child process in a session of its own: Ctrl-C in the terminal reaches the demo alone, which then ends it.

    log: file that its output is appended to; without one it writes where the demo does.
    """

    def __init__(self, arguments: Sequence[str], *, folder: Path, log: Path | None = None) -> None:
        more = {"start_new_session": True} if os.name == "posix" else {"creationflags": _NEW_GROUP}
        self.log = log
        self._log_start = 0
        if log is None:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments], cwd=folder, stdin=subprocess.DEVNULL, **more
            )
            return
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        with open_log(log) as output:
            self._log_start = output.tell()
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **more,
            )

    def ended(self) -> int | None:
        """The exit status, or None while it runs."""
        return self.process.poll()

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that it wrote to its log."""
        if self.log is None:
            return ""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])

    def stop(self, patience: float) -> None:
        """Ask it to end; kill it and its children if it does not within `patience` seconds."""
        if self.process.poll() is None:
            try:
                itself = psutil.Process(self.process.pid)
                family = [itself, *itself.children(recursive=True)]
            except psutil.NoSuchProcess:
                family = []
            self.process.terminate()
            for process in wait_gone(family, patience):
                end([process], patience=0)
        self.process.wait()


_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
