"""What a worker does for versions beside embedding: it brings a wished activation on, and builds indexes."""

from __future__ import annotations

import logging
import time

from django.db import DatabaseError

from shop_similarity import database, rollout
from shop_similarity.conf import get_settings
from shop_similarity.embedding import outbox
from shop_similarity.embedding.engines import is_beside
from shop_similarity.embedding.index import build_index_unless_it_failed, index_state
from shop_similarity.models import Embedding, ModelVersion

logger = logging.getLogger(__name__)

# Counting what a candidate lacks is cheap, but not so cheap in a shop of millions that a busy worker should do nothing
# else: it embeds for this many times as long before it counts again.
_REST = 20
_next_count = 0.0


@database.on_primary()
def look_after_versions() -> None:
    """Bring a wished activation a step on, and build the indexes of live versions that are complete without."""
    advance_rollout()
    for pk in ModelVersion.objects.live().values_list("pk", flat=True):
        index_after_bulk_load(pk)


def advance_rollout() -> None:
    """Bring a wished activation a step on, unless that has just been tried. Only a fault of the database is raised."""
    global _next_count
    started = time.monotonic()
    if started < _next_count:
        return
    try:
        rollout.advance()
    except DatabaseError:
        raise
    except Exception:
        # The storage or the index may be in trouble; new photos must not wait for that.
        logger.exception("A roll-out could not be brought on; the worker goes on embedding and tries again.")
    finally:
        _next_count = time.monotonic() + _REST * (time.monotonic() - started)


def index_after_bulk_load(version_id: int) -> None:
    """Build the index of a version that has enough photos for one, once none waits any more."""
    # Searches don't use the index before INDEX_ROWS, and until it is there a bulk load goes faster without it.
    if is_beside() or outbox.has_due(version_id) or index_state(version_id).state not in ("absent", "invalid"):
        return
    enough = get_settings().index_rows // 2
    if Embedding.objects.filter(version=version_id)[enough : enough + 1].exists():
        started = time.monotonic()
        if build_index_unless_it_failed(version_id):
            logger.info("Built the index of version %d in %.1f s.", version_id, time.monotonic() - started)
