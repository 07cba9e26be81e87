"""The HNSW index over the codes of one model version: made after a bulk load, without blocking anybody."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass

from django.db import DatabaseError

from .. import database
from ..models import Embedding

logger = logging.getLogger(__name__)

_TABLE = Embedding._meta.db_table
_PREFIX = "shop_similarity_code_v"


@dataclass(frozen=True)
class IndexState:
    """State of a version's index: ``absent``, ``building``, ``invalid`` (a build that was cut off) or ``ready``."""

    name: str
    state: str
    bytes: int


def index_name(version_id: int) -> str:
    return f"{_PREFIX}{int(version_id)}"


def indexed_versions() -> list[int]:
    """Keys of the versions that have an index of any state, also of those whose row is gone."""
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT substring(c.relname FROM %s)::bigint FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid "
            "WHERE i.indrelid = %s::regclass AND c.relname ~ %s ORDER BY 1",
            [f"^{_PREFIX}(\\d+)$", _TABLE, f"^{_PREFIX}\\d+$"],
        )
        return [version_id for (version_id,) in cursor.fetchall()]


def index_state(version_id: int) -> IndexState:
    return index_states([version_id])[version_id]


def index_states(version_ids: Collection[int]) -> dict[int, IndexState]:
    """The states of the indexes of several versions, by one statement."""
    names = {index_name(version_id): version_id for version_id in version_ids}
    states = {version_id: IndexState(name, "absent", 0) for name, version_id in names.items()}
    with database.cursor() as cursor:
        cursor.execute(
            """SELECT c.relname, i.indisvalid, pg_relation_size(c.oid),
                      EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)
               FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
               WHERE c.relname = ANY(%s) AND i.indrelid = %s::regclass""",
            [list(names), _TABLE],
        )
        for name, valid, size, building in cursor.fetchall():
            state = "ready" if valid else "building" if building else "invalid"
            states[names[name]] = IndexState(name, state, size)
    return states


def build_index(version_id: int) -> bool:
    """Build the version's index unless it is there. Returns whether it was built.

    Readers and writers go on meanwhile. An index that a crash left half-built is dropped and built anew. Two builders
    at once: the second waits for nothing and returns False.

    Raises:
        RuntimeError: called inside a transaction, where Postgres can't build concurrently.
    """
    if database.in_transaction():
        raise RuntimeError("An index is built concurrently, which Postgres refuses inside a transaction.")
    name = index_name(version_id)
    with database.long_lock(name) as is_ours:
        state = index_state(version_id).state
        if not is_ours or state == "ready":
            return False
        with database.unlimited_cursor() as cursor:
            if state == "invalid":
                cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            cursor.execute(
                f"CREATE INDEX CONCURRENTLY {name} ON {_TABLE} USING hnsw (code bit_hamming_ops) "
                f"WHERE version_id = {int(version_id)}"
            )
            cursor.execute(f"ANALYZE {_TABLE}")
        return True


_FIRST_REST_SECONDS = 300
_LONGEST_REST_SECONDS = 6 * 3_600
# Of versions whose index could not be built: how often, and when this process tries again.
_failed: dict[int, tuple[int, float]] = {}


def build_index_unless_it_failed(version_id: int) -> bool:
    """As :func:`build_index`, for workers, which come back to it after every drain.

    One that could not be built, since the database cancelled it, say, is logged and left alone for five minutes, then
    for twice as long each time, up to six hours: a build takes much of the database's time, in vain too.
    """
    failures, again = _failed.get(version_id, (0, 0.0))
    if time.monotonic() < again:
        return False
    try:
        is_built = build_index(version_id)
    except DatabaseError as error:
        rest = min(_FIRST_REST_SECONDS * 2**failures, _LONGEST_REST_SECONDS)
        _failed[version_id] = failures + 1, time.monotonic() + rest
        logger.error(
            "The index of version %d could not be built (%s); the next try is in %d minutes. Searches scan all codes "
            "meanwhile. Where a limit of the role or a pooler cancels it, give workers a direct connection or run "
            "`manage.py embed_products` with one.",
            version_id,
            " ".join(str(error).split()),
            rest // 60,
        )
        return False
    _failed.pop(version_id, None)
    return is_built


def drop_index(version_id: int) -> None:
    """Drop the version's index, without blocking readers."""
    with database.unlimited_cursor() as cursor:
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index_name(version_id)}")
