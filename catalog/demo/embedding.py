"""Watching the worker embed what the outbox holds."""

import sys
import time
from collections.abc import Callable

from django.utils.translation import gettext as _
from tqdm import tqdm

from catalog.demo.children import Child
from catalog.demo.errors import DemoError
from shop_similarity.embedding.sweep import sweep
from shop_similarity.rollout.status import status

LOOK_SECONDS = 0.5
STALL_SECONDS = 300


def is_done(state: dict) -> bool:
    """Whether every photo is embedded or has failed, by shop_similarity.rollout.status.status()."""
    # What is known about only can't be compared.
    return state["pending"] == 0 and (state.get("is_about") or state["embedded"] + state["failed"] >= state["images"])


def embed_all(worker: Child, say: Callable[[str], None]) -> dict:
    """Wait, with a progress bar, until nothing is left to embed; returns the last status.

    Raises DemoError if the worker ends, or does nothing for five minutes.
    """
    state = status()
    if is_done(state):
        return state
    if state["pending"] == 0:
        # Photos from before there was a model: no save will come to queue them.
        sweep(files=False)
        state = status()
    done = state["embedded"] + state["failed"]
    moved = time.monotonic()
    on_terminal = sys.stderr.isatty()
    with tqdm(
        total=state["images"], initial=done, unit=_("photo"), desc=_("  Photos"), mininterval=0.5 if on_terminal else 10
    ) as bar:
        while not is_done(state):
            if worker.ended() is not None:
                raise DemoError(
                    _("The worker ended with %(status)s. The end of its log, %(log)s:\n%(tail)s")
                    % {"status": worker.ended(), "log": worker.log, "tail": worker.log_tail()}
                )
            if time.monotonic() - moved > STALL_SECONDS:
                raise DemoError(
                    _("The worker has embedded nothing for %(seconds)d s. The end of its log, %(log)s:\n%(tail)s")
                    % {"seconds": STALL_SECONDS, "log": worker.log, "tail": worker.log_tail()}
                )
            time.sleep(LOOK_SECONDS)
            state = status()
            now_done = state["embedded"] + state["failed"]
            if now_done != done:
                moved = time.monotonic()
                bar.update(now_done - done)
                done = now_done
    return state
