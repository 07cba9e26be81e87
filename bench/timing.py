"""Times in figures: the median and the tails of a list of measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np


def tails(seconds: Sequence[float]) -> dict[str, float]:
    """``p50_ms``, ``p95_ms`` and ``p99_ms`` of times in seconds."""
    values = np.percentile(1e3 * np.asarray(seconds), (50, 95, 99))
    return {f"p{share}_ms": round(float(value), 3) for share, value in zip((50, 95, 99), values, strict=True)}


def processor_seconds(server: int) -> float:
    """Processor time of this process and of the server's that answers it, which a busy machine does not lengthen.

    Without that of processes that the server starts to scan together.
    """
    return time.process_time() + int(Path(f"/proc/{server}/schedstat").read_text().split()[0]) / 1e9


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
