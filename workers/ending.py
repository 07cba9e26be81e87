"""How a worker ends within the time that systemd or Kubernetes give it, whatever it is at.

Asked to end, a worker finishes its batch. Where that takes longer than ``SHUTDOWN_SECONDS`` (a slow storage, a network
that is still being loaded, an index that is being built), it gives its photos back with their tries uncounted and ends;
killed instead, it would hold them until their lease ends, and each would have lost a try. A worker of the shop's own
Celery app only gives them back: when that ends is for the shop's other tasks to say.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from shop_similarity import database
from shop_similarity.conf import get_settings
from shop_similarity.embedding import bell, outbox
from shop_similarity.workers.identity import worker_name
from shop_similarity.workers.jobs import stopping

logger = logging.getLogger(__name__)

# Of the time, for giving back; a parent gives its children as much.
_MARGIN_SECONDS = 3.0
_MARGIN_OF_PARENTS = 1.0
_begun = threading.Event()
_begun_at = 0.0
# Of a pool of processes: the parent holds one end for as long as it does not stop, and its children hear the other.
_heard: int | None = None
_held: int | None = None
_parent = 0
_has_children = False


def begin(exit_: Callable[[int], object] | None = None) -> None:
    """Ask all threads of this process to stop, and count down to the end. May be called in a signal's handler.

    Args:
        exit_: ends the process, :func:`os._exit`; None: it is not ours to end.
    """
    global _held, _begun_at
    is_parent = _held is not None and _has_children
    if _held is not None:
        held, _held = _held, None
        os.close(held)
    stopping.set()
    if _begun.is_set():
        return
    _begun.set()
    _begun_at = time.monotonic()
    seconds = get_settings().shutdown_seconds
    if seconds:
        margin = _MARGIN_OF_PARENTS if is_parent else _MARGIN_SECONDS
        deadline = time.monotonic() + max(seconds - margin, seconds * (0.9 if is_parent else 0.5))
        threading.Thread(target=_end_at, args=(deadline, exit_), name="shop-similarity-ending", daemon=True).start()


def tell() -> None:
    """Log how long it took until all threads had come to their end."""
    if _begun.is_set():
        logger.info("The worker came to its end %.1f s after it was asked to.", time.monotonic() - _begun_at)


def leave(exit_: Callable[[int], object]) -> None:
    """End the process where it was asked to end, for :mod:`atexit`.

    What Python takes apart behind that takes seconds with TensorFlow, half a minute on a busy machine, and no thread
    could end it by then.
    """
    if _begun.is_set():
        # What is registered before this would come after it.
        bell.flush()
        logging.shutdown()
        exit_(0)


def _end_at(deadline: float, exit_: Callable[[int], object] | None) -> None:
    time.sleep(max(deadline - time.monotonic(), 0.0))
    returning = threading.Thread(target=_give_back, name="shop-similarity-returning", daemon=True)
    returning.start()
    # The database may be what it waits for.
    returning.join(_MARGIN_SECONDS * 0.8)
    if exit_ is None:
        return
    for stream in (sys.stdout, sys.stderr):
        # Whoever read it may be gone, or nobody ever did.
        with suppress(Exception):
            stream.flush()
    # Not by an exception: the threads that it would have to wait for are what takes so long.
    exit_(0)


def _give_back() -> None:
    try:
        given_back = outbox.release_all(worker_name())
        logger.warning("The worker ends before it was done, and gave %d outbox entries back.", given_back)
    except Exception as error:
        logger.error("The worker ends and could not give its photos back; their lease ends by itself. %s", error)
    finally:
        database.close_connections()


def prepare_children() -> None:
    """In the parent, before it forks: make what tells its children that it stops. Celery itself would wait until their
    outbox is empty.
    """
    global _heard, _held, _parent
    if _held is None:
        _heard, _held = os.pipe()
        _parent = os.getpid()


def has_children() -> None:
    """In the parent: its children are what embeds."""
    global _has_children
    _has_children = True


def hear_parent(exit_: Callable[[int], object] | None = None) -> None:
    """In a child: begin to end when the parent stops. Does nothing where it was not forked: Celery's
    solo pool calls itself a child, too.

    Args:
        exit_: as of :func:`begin`.
    """
    global _held
    if _heard is None or _held is None or os.getpid() == _parent:
        return
    held, _held = _held, None
    os.close(held)
    threading.Thread(target=_listen, args=(_heard, exit_), name="shop-similarity-parent", daemon=True).start()


def _listen(heard: int, exit_: Callable[[int], object] | None) -> None:
    os.read(heard, 1)
    begin(exit_)
