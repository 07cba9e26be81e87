"""Turning the signals that end a program into one exception, raised where it does no harm."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Interrupted(KeyboardInterrupt):
    """The user, or the system, asked the demo to end. A KeyboardInterrupt, so that no library takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruption:
    """While entered, the first of SIGNALS raises Interrupted in the main thread, later ones are ignored.

    A signal that was ignored when the program started (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self._before: dict[int, object] = {}
        self._raised = False
        self._closed = False
        self._shields = 0
        self._waiting: int | None = None

    def __enter__(self) -> Self:
        for name in SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        self._tell = sys.unraisablehook
        sys.unraisablehook = self._drop
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._tell

    def _drop(self, event: "sys.UnraisableHookArgs") -> None:
        # It comes again at the next step.
        if not isinstance(event.exc_value, Interrupted):
            self._tell(event)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold a signal back for a moment that must not be cut in two, like starting a process and noting it.

        A second signal gets through: whoever insists does not want to wait.
        """
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
            if self._waiting is not None and not self._shields and not self._raised:
                self._raise(self._waiting)

    def check(self) -> None:
        """Raise once more what was raised in vain: Python drops what a finalizer raises, and the program went on."""
        if self._raised and not self._closed and self._waiting is not None:
            raise Interrupted(self._waiting)

    def close(self) -> None:
        """From now on signals are ignored: the demo is ending in order."""
        self._raised = self._closed = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._raised:
            return
        if self._shields and self._waiting is None:
            self._waiting = number
            return
        self._raise(number)

    def _raise(self, number: int) -> None:
        self._raised = True
        self._waiting = number
        raise Interrupted(number)
