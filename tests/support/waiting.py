"""Waiting for what another process or thread does, as long as a slow and busy machine may take for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
PATIENCE = 200.0


def wait_until(condition: Callable[[], Found], said: Callable[[], str] = str, seconds: float = PATIENCE) -> Found:
    """What the condition returns as soon as that is true.

    Args:
        condition: asked fifty times a second.
        said: what a failure is to show, such as the log of a worker; its end counts.
        seconds: to wait at most.

    Raises:
        AssertionError: it did not come true.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"Not within {seconds:.0f} s. {said()[-4000:]}"
        time.sleep(0.02)
    return found
