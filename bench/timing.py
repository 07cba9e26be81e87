"""Times in figures: the median and the tails of a list of measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np


def tails(seconds: Sequence[float]) -> dict[str, float]:
    """``p50_ms``, ``p95_ms`` and ``p99_ms`` of times in seconds."""
    values = np.percentile(1e3 * np.asarray(seconds), (50, 95, 99))
    return {f"p{share}_ms": round(float(value), 3) for share, value in zip((50, 95, 99), values, strict=True)}


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
