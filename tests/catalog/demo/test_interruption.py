"""A signal ends the demo, even where Python drops the exception that it became."""

import subprocess
import sys

SCRIPT = """
import signal, sys, weakref
from catalog.demo.interruption import Interrupted, Interruption

signal.signal(signal.SIGINT, signal.default_int_handler)
told = []
sys.unraisablehook = told.append

class Thing:
    pass

with Interruption() as interruption:
    interruption.check()
    thing = Thing()
    weakref.finalize(thing, signal.raise_signal, signal.SIGINT)
    del thing
    try:
        interruption.check()
    except Interrupted as interrupted:
        print("raised", interrupted)
    # What ends in order is not cut short.
    interruption.close()
    interruption.check()
print("told", told)
"""


def test_what_a_finalizer_swallows_is_raised_at_the_next_step():
    # In a process of its own: a signal that is not heard as it should be ends that one, and not the tests.
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "raised SIGINT\ntold []\n"), ended.stderr
