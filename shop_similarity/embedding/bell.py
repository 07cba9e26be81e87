"""The bell: tells the workers that the outbox has something, without ever making the shop wait.

Ringing only wakes a thread of this process, which talks to the broker with short timeouts. Where there is no broker the
ring is lost and nothing else: an idle worker looks into the outbox by itself every ``POLL_SECONDS``.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from .. import meters
from ..conf import get_settings

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)

DRAIN_TASK = "shop_similarity.drain"

# A burst of saves needs one ring, and a queue that nobody empties needs no more of them.
_QUIET_SECONDS = 0.2
_ENOUGH_RINGS = 4
_EXPIRES_SECONDS = 300


@functools.lru_cache(maxsize=1)
def _app() -> Any:
    from .celery_app import make_app

    # An app of our own, so that ringing works in shops that have no Celery app.
    return make_app("shop_similarity.bell", set_as_current=False)


def send(listener: Celery | None = None) -> bool:
    """Ring the broker's queue now, in this thread. Returns False when enough rings wait there already.

    Args:
        listener: the app whose broker is rung, where it is known who listens; by default the broker that Django's
            ``CELERY_`` settings name.

    Raises:
        Exception: whatever the transport raises when the broker cannot be reached.
    """
    queue = get_settings().queue
    app = _app()
    with (listener or app).connection_for_write(connect_timeout=2) as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
        channel = connection.default_channel
        waiting = app.amqp.queues[queue](channel).queue_declare().message_count
        if waiting >= _ENOUGH_RINGS:
            return False
        app.send_task(
            DRAIN_TASK, queue=queue, connection=connection, expires=_EXPIRES_SECONDS, retry=False, ignore_result=True
        )
    return True


class _Ringer:
    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._warned_at = 0.0
        self._listener: Celery | None = None

    def ring(self, listener: Celery | None) -> None:
        self._listener = listener or self._listener
        self._idle.clear()
        self._wanted.set()
        # Threads do not survive a fork: a web worker that was forked off starts its own at its first ring.
        if self._thread is None or self._pid != os.getpid() or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or self._pid != os.getpid() or not self._thread.is_alive():
                    self._pid = os.getpid()
                    self._thread = threading.Thread(target=self._run, name="shop-similarity-bell", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                send(self._listener)
                meters.count_ring(True)
            except Exception as error:
                meters.count_ring(False)
                if time.monotonic() - self._warned_at > 60:
                    self._warned_at = time.monotonic()
                    logger.warning(
                        "The Celery broker can't be reached (%s). Photos stay in the outbox and are embedded when a "
                        "worker looks there by itself.",
                        error,
                    )
            if not self._wanted.is_set():
                self._idle.set()
            time.sleep(_QUIET_SECONDS)

    def flush(self, timeout: float) -> bool:
        return self._idle.wait(timeout)


_ringer = _Ringer()


def ring(listener: Celery | None = None) -> None:
    """Wake the workers soon. Returns at once and never raises.

    Args:
        listener: as of :func:`send`, for all rings of this process from now on.
    """
    _ringer.ring(listener)


def flush(timeout: float = 1.0) -> bool:
    """Wait until rings that are under way have gone out. Returns False when ``timeout`` seconds were not enough."""
    return _ringer.flush(timeout)


# A command that saves a product and ends at once would take its ring with it.
atexit.register(flush)
