"""What the command says, and the bars that show how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shop_similarity.training.commands.progress_bars import ProgressBars


class Console:
    """Where the parts of the command write.

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
        return lambda done, total: self.bars.photos(what, done, total)

    def counted_to(self, what: str, total: int) -> Callable[[int], None]:
        """Call it as ``(done)`` to show a bar of ``total`` photos."""
        return lambda done: self.bars.photos(what, done, total)
