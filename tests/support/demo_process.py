"""`manage.py demo` as a user's shell would start it, in a data folder of the test's own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.support.waiting import PATIENCE

PROJECT = Path(__file__).resolve().parents[2]

# What the run of the tests itself put into the environment is nothing that a user's shell has.
OF_THE_TESTS = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE")


class DemoProcess:
    """One demo. `data` is its SHOP_DATA; None leaves it at `.data` in `project`."""

    def __init__(
        self,
        *arguments: str,
        log: Path,
        data: Path | None = None,
        project: Path = PROJECT,
        env: dict[str, str] | None = None,
    ) -> None:
        self.log_file = log
        self.data = data or project / ".data"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SHOP_") and name not in OF_THE_TESTS
        }
        if data is not None:
            environment["SHOP_DATA"] = str(data)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "demo", *arguments],
                cwd=project,
                env=environment | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait for a text in the output. Raises AssertionError with all output if it does not come."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert self.process.poll() is None, f"The demo ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"No {text!r} within {timeout} s in:\n{self.output}"
            time.sleep(0.02)

    def signal_group(self, number: int) -> None:
        """What a terminal does at Ctrl-C or when it is closed: the signal goes to the whole foreground group."""
        os.killpg(self.process.pid, number)

    def wait(self, timeout: float = PATIENCE) -> int:
        return self.process.wait(timeout=timeout)

    def url(self) -> str:
        """The address that the demo printed."""
        return re.search(r"http://127\.0\.0\.1:\d+/", self.output).group()

    def kill(self) -> None:
        """SIGKILL to the demo alone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)


def left_behind(data: Path) -> list[str]:
    """Every process that works in the data folder, names it in its command line or in its environment.

    Found in another way than the demo's own, which marks what it starts.
    """
    found = []
    places = [str(data), *(place for name in ("postgres", "valkey") if (place := _elsewhere(data / name)))]
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            traces = [process.cwd(), *process.cmdline(), *process.environ().values()]
        except (psutil.Error, OSError):
            continue
        if any(place in trace for trace in traces for place in places):
            found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
    return found


def _elsewhere(folder: Path) -> str | None:
    """Where a server's data lies if its user cannot reach the project."""
    try:
        return json.loads((folder / "address.json").read_text())["data"]
    except FileNotFoundError:
        return None


def end_all(data: Path) -> None:
    """Whatever a failed test left."""
    for line in left_behind(data):
        try:
            psutil.Process(int(line.split()[0])).kill()
        except psutil.NoSuchProcess:
            continue
