"""The demo's steps: announced when they begin, timed when they end."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from django.utils.translation import gettext as _


def say(text: str) -> None:
    """Print a line at once; a terminal that was closed meanwhile is no reason to fail."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stdout, flush=True)  # noqa: T201


@dataclass
class Steps:
    """Runs steps one after the other and keeps their duration in seconds by name."""

    say: Callable[[str], None] = say
    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[Callable[[str], None]]:
        """Announce `title`, run the block, print how long it took; yields a function that prints a note below it."""
        self.say(f"• {title}")
        start = time.monotonic()
        try:
            yield lambda text: self.say(f"  {text}")
        finally:
            self.seconds[name] = round(time.monotonic() - start, 2)
        self.say(_("  %(seconds).1f s") % {"seconds": self.seconds[name]})

    @property
    def total(self) -> float:
        """Seconds since the first step could begin."""
        return round(time.monotonic() - self.began, 2)
