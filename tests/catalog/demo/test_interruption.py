"""A signal ends the demo, even where Python drops the exception that it became."""

import signal
import sys
import weakref

import pytest

from catalog.demo.interruption import Interrupted, Interruption


class Thing:
    """Something with a finalizer."""


def test_what_a_finalizer_swallows_is_raised_at_the_next_step(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with Interruption() as interruption:
        interruption.check()
        thing = Thing()
        # To this thread: what is sent to the process another thread may take, and then it is heard only later.
        weakref.finalize(thing, signal.raise_signal, signal.SIGINT)
        del thing
        with pytest.raises(Interrupted, match="SIGINT"):
            interruption.check()
        # What ends in order is not cut short.
        interruption.close()
        interruption.check()
    assert told == []
