"""Traffic made by locust in a process of its own, and what its requests brought."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.running_shop import ROOT, CannotMeasure, RunningShop


@dataclass(frozen=True)
class Request:
    """One request: when it began (Unix time), its kind, status (0 without an answer), seconds, Retry-After, error."""

    began: float
    kind: str
    status: int
    seconds: float
    retry_after: bool
    error: str

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 400 and not self.error

    @property
    def is_wrong(self) -> bool:
        """Neither good nor turned away in order: 429 and 503 with the time to come back."""
        return not self.is_good and not (self.status in (429, 503) and self.retry_after)


@dataclass(frozen=True)
class Summary:
    """Requests of one kind.

    Attributes:
        rate: answers of any status a second.
        good: answers a second that are no error.
        p50, p95, p99: milliseconds of the answers that are no error; NaN without any.
        errors: how many were no success, by status; 0 is no answer.
    """

    requests: int
    rate: float
    good: float
    p50: float
    p95: float
    p99: float
    errors: dict[int, int]

    def shares(self) -> str:
        """What was no success, as percentages by status."""
        errors = sorted(self.errors.items())
        return ", ".join(f"{status or 'none'} {count / self.requests:.1%}" for status, count in errors) or "-"


def summary(requests: Iterable[Request], seconds: float) -> Summary:
    requests = list(requests)
    good = [1e3 * request.seconds for request in requests if request.is_good]
    quantiles = np.percentile(good, (50, 95, 99)) if good else (np.nan,) * 3
    return Summary(
        len(requests),
        sum(request.status > 0 for request in requests) / seconds,
        len(good) / seconds,
        *(float(value) for value in quantiles),
        dict(Counter(request.status for request in requests if not request.is_good)),
    )


class Traffic:
    """A running locust; :meth:`new_requests` gives what has been answered since the last look."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process = process
        self._log = log
        self._place = 0

    def new_requests(self) -> list[Request]:
        if not self._log.exists():
            return []
        with self._log.open("rb") as file:
            file.seek(self._place)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._place += len(whole)
        found = []
        for line in whole.decode().splitlines():
            began, kind, status, milliseconds, retry_after, error = json.loads(line)
            found.append(Request(began, kind, status, milliseconds / 1e3, retry_after, error))
        return found


@contextmanager
def traffic(
    shop: RunningShop, photos: Path, *, clients: int = 0, mix: dict[str, int] | None = None, rates: dict | None = None
) -> Iterator[Traffic]:
    """Visitors of the shop for as long as the block lasts.

    Args:
        photos: folder of the photos that are searched with and saved.
        clients: that ask without a pause, by the weights of `mix`.
        rates: requests a second by kind, instead of `clients` and `mix`.
    """
    plan: dict[str, Any] = {
        "photos": str(photos),
        "targets": [asdict(target) for target in shop.targets],
        "password": shop.password,
        # Enough of them to hold the rate while an answer takes up to four seconds.
        **(
            {"rates": {kind: (rate, max(1, round(rate * 4))) for kind, rate in rates.items()}}
            if rates
            else {"mix": mix}
        ),
    }
    folder = shop.folder / "traffic"
    folder.mkdir(exist_ok=True)
    number = len(list(folder.glob("*.jsonl")))
    log = folder / f"{number}.jsonl"
    log.touch()
    users = str(sum(count for _rate, count in plan["rates"].values()) if rates else clients)
    with (folder / f"{number}.log").open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "locust", "-f", str(ROOT / "bench" / "visitors.py"), "--headless"),
                *("--host", shop.url, "--only-summary", "--stop-timeout", "0", "--users", users, "--spawn-rate", users),
            ],
            env=os.environ | {"BENCH_VISIT": json.dumps(plan), "BENCH_LOG": str(log)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    made = Traffic(process, log)
    try:
        yield made
        if process.poll() is not None:
            text = (folder / f"{number}.log").read_text(errors="replace")
            raise CannotMeasure(f"locust ended with {process.returncode}:\n{text[-3000:]}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
