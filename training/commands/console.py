"""What commands say, and the progress bars that show how far they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
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


class Console:
    """Where the parts of a command write.

    Args:
        stdout: of the command.
        stderr: of the command.
        quiet: whether only warnings are written.

    Attributes:
        bars: one progress bar at a time; to be closed before something is said.
    """

    def __init__(self, stdout: Any, stderr: Any, quiet: bool) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.quiet = quiet
        self.bars = ProgressBars(stderr, quiet)

    def say(self, text: str) -> None:
        """Write a line that a quiet command leaves out."""
        if not self.quiet:
            self.stdout.write(text)

    def warn(self, text: str) -> None:
        """Write a line that also a quiet command writes."""
        self.stderr.write(text)

    def counted(self, what: str) -> Callable[[int, int], None]:
        """Call it as ``(done, total)`` to show a bar of photos."""
        return partial(self.bars.photos, what)

    def counted_to(self, what: str, total: int) -> Callable[[int], None]:
        """Shows a bar of ``total`` photos; call it as ``(done)``."""
        self.bars.photos(what, 0, total)
        return lambda done: self.bars.photos(what, done, total)
