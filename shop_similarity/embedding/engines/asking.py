"""Asking the engine beside Postgres for candidates: at most for as long as a page can wait."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
from django.utils.translation import gettext as _

from ...engine_errors import EngineDown
from ...models import EngineCopy
from .choice import get_engine
from .copies import copy_of, wanted_copy

logger = logging.getLogger(__name__)

# An engine that did not answer is asked again after so long, then after twice as long each time: what waits for it are
# pages.
_FIRST_REST_SECONDS = 2.0
_LONGEST_REST_SECONDS = 30.0
_KEPT_SECONDS = 5.0

_lock = threading.Lock()
_failures = 0
_not_before = 0.0
_said = ""
# The copy of each version, None where it can't be searched yet, and how long that is believed.
_copies: dict[tuple[str, int], tuple[float, EngineCopy | None]] = {}


def forget() -> None:
    """Ask everything anew."""
    global _failures, _not_before, _said
    _failures, _not_before, _said = 0, 0.0, ""
    _copies.clear()


def nearest(version_id: int, queries: np.ndarray, count: int) -> list[list[int]]:
    """Keys of the embeddings of a version nearest to each query.

    Raises:
        EngineDown: it does not answer, did not a moment ago, or has no complete copy of this version yet.
    """
    global _failures, _not_before, _said
    if time.monotonic() < _not_before:
        raise EngineDown(_said)
    copy = _ready_copy(version_id)
    if copy is None:
        raise EngineDown(
            _("The search engine has no complete copy of these embeddings yet: run `manage.py sync_engine`.")
        )
    try:
        found = get_engine().nearest(copy_of(copy), queries, count)
    except EngineDown as error:
        with _lock:
            if not _failures:
                logger.error("%s Look-alikes come from the cache or the FALLBACK until it does.", error)
            _said = str(error)
            _not_before = time.monotonic() + min(_FIRST_REST_SECONDS * 2**_failures, _LONGEST_REST_SECONDS)
            _failures = min(_failures + 1, 10)
        _copies.clear()
        raise
    if _failures:
        with _lock:
            _failures = 0
        logger.warning("The search engine answers again.")
    return found


def _ready_copy(version_id: int) -> EngineCopy | None:
    engine = get_engine()
    key = f"{type(engine).__qualname__}{id(engine)}", version_id
    kept = _copies.get(key)
    if kept is None or kept[0] < time.monotonic():
        copy = wanted_copy(version_id)
        kept = time.monotonic() + _KEPT_SECONDS, copy if copy is not None and copy.filled_at else None
        if len(_copies) > 1_000:
            _copies.clear()
        _copies[key] = kept
    return kept[1]
