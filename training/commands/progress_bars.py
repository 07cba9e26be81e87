"""Progress bars of commands, one after the other as the work changes its name."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class ProgressBars:
    """Shows one bar at a time; a new name, or a count that falls, begins a new one.

    Args:
        stream: where bars are drawn.
        quiet: whether nothing is drawn.
    """

    def __init__(self, stream: Any, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._bar: tqdm | None = None
        self._what = ""

    def photos(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` photos; 0 for a total that is not known."""
        self._show(what, done, total, unit=" photos")

    def bytes(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` bytes; 0 for a total that is not known."""
        self._show(what, done, total, unit="B", unit_scale=True, unit_divisor=1024)

    def _show(self, what: str, done: int, total: int, **options: Any) -> None:
        if self._bar is None or what != self._what or done < self._bar.n:
            self.close()
            self._what = what
            # A log file wants a line now and then, not a bar that moves.
            interval = 0.2 if sys.stderr.isatty() else 10
            self._bar = tqdm(
                desc=what, total=total or None, file=self._stream, disable=self._quiet, mininterval=interval, **options
            )
        if total and self._bar.total != total:
            self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
