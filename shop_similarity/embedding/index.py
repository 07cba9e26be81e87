"""The HNSW index over the codes of one model version: made after a bulk load, without blocking anybody.

While it is built, pgvector holds the whole graph in ``maintenance_work_mem``, 64 MB where nobody has set it; a graph
that outgrows it is written to disk and goes on there, many times slower. So a build asks for what its graph needs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection
from dataclasses import dataclass

from django.db import DatabaseError, OperationalError

from .. import database
from ..conf import get_settings
from ..models import EMBEDDING_DIM, Embedding

logger = logging.getLogger(__name__)

_TABLE = Embedding._meta.db_table
_PREFIX = "shop_similarity_code_v"
# pgvector's default: neighbours of a photo in each layer of the graph, twice as many in the lowest.
_NEIGHBOURS = 16
# How many each new photo is compared with; twice pgvector's default. With that one photo in eighty of 300,000 was not
# found by its own code.
_LOOKED_AMONG = 128
# What pgvector 0.8 keeps for a photo beside its code and its neighbours.
_ELEMENT_BYTES = 188
_NEIGHBOUR_BYTES = 16
# Postgres starts no worker for a build with less than this for each, itself included.
_WORKER_BYTES = 32 * 2**20
# For each photo and each doubling of their number, see docs/searching.md.
_SECONDS_IN_MEMORY = 2e-5
_SECONDS_ON_DISK = 2.5e-4


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


@dataclass(frozen=True)
class BuildPlan:
    """What a build of an index takes of the database server.

    Attributes:
        rows: photos.
        graph_bytes: memory that the graph needs.
        memory_bytes: memory that the build may take: what the server gives anyway or ``INDEX_MEMORY``, if need be.
        workers: processes beside the first one.
    """

    rows: int
    graph_bytes: int
    memory_bytes: int
    workers: int

    @property
    def fits(self) -> bool:
        """Whether the whole graph is built in memory."""
        return self.graph_bytes <= self.memory_bytes

    @property
    def seconds(self) -> float:
        """How long it takes, within a factor of two on two cores that have nothing else to do."""
        in_memory = min(self.rows, self.rows * self.memory_bytes // max(self.graph_bytes, 1))
        # Each photo costs a walk through the graph, which gets longer with the logarithm of its size.
        hops = math.log2(max(self.rows, 2))
        return hops * (in_memory * _SECONDS_IN_MEMORY + (self.rows - in_memory) * _SECONDS_ON_DISK)

    def __str__(self) -> str:
        return (
            f"{self.rows} photos, a graph of {_mebibytes(self.graph_bytes)} MiB, "
            f"{_mebibytes(self.memory_bytes)} MiB of memory, {self.workers} further processes: about "
            f"{max(round(self.seconds / 60), 1)} min"
        )


def graph_bytes(rows: int, dimensions: int = EMBEDDING_DIM, neighbours: int = _NEIGHBOURS) -> int:
    """Memory of pgvector's graph over the codes of so many photos: code, element, neighbours of all its layers.

    Each layer has one photo in ``neighbours`` of the one below, so that a photo is in 1 / (neighbours - 1) of those
    above the lowest. pgvector 0.8.6 reports 1,228 bytes a photo by the number at which it runs out of memory.
    """
    layers = 2 * neighbours + neighbours / (neighbours - 1)
    return int(rows * (_ELEMENT_BYTES + dimensions / 8 + layers * _NEIGHBOUR_BYTES))


def build_plan(version_id: int) -> BuildPlan:
    """What building the version's index will take."""
    settings = get_settings()
    with database.cursor() as cursor:
        cursor.execute(
            f"SELECT (SELECT count(*) FROM {_TABLE} WHERE version_id = %s), "
            "pg_size_bytes(current_setting('maintenance_work_mem')), "
            "current_setting('max_parallel_maintenance_workers')::int",
            [version_id],
        )
        rows, given, workers = cursor.fetchone()
    needed = graph_bytes(rows)
    memory = max(given, min(settings.index_memory, needed + (workers + 1) * _WORKER_BYTES))
    return BuildPlan(rows, needed, memory, workers)


def _mebibytes(number: int) -> int:
    return -(-number // 2**20)


def build_index(version_id: int) -> bool:
    """Build the version's index unless it is there. Returns whether it was built.

    Readers and writers go on meanwhile. An index that a crash left half-built is dropped and built anew. Two builders
    at once: the second waits for nothing and returns False.

    The build takes the memory that its graph needs, up to ``INDEX_MEMORY``, on a connection of its own; through a
    pooler, which would leave it to others, what the server gives.

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
        plan = build_plan(version_id)
        logger.info("Building the index of version %d: %s.", version_id, plan)
        if not plan.fits:
            logger.warning(
                "The graph of version %d needs %d MiB while its index is built, and gets %d: what does not fit is "
                "built on disk, many times slower. Where the database server has the memory, set "
                "SHOP_SIMILARITY['INDEX_MEMORY'] to more than that, in bytes.",
                version_id,
                _mebibytes(plan.graph_bytes),
                _mebibytes(plan.memory_bytes),
            )
        for workers in dict.fromkeys((plan.workers, 0)):
            wanted = {
                "maintenance_work_mem": f"{plan.memory_bytes // 1024}kB",
                "max_parallel_maintenance_workers": str(workers),
            }
            try:
                _build(version_id, wanted, drop=state == "invalid" or workers != plan.workers)
                break
            except OperationalError as error:
                # Several processes share the graph, for which a container may have no more than 64 MB; one needs none.
                if getattr(error.__cause__, "sqlstate", "") not in _NO_SHARED_MEMORY or not workers:
                    raise
                logger.warning("The database server has too little shared memory to build in parallel: %s", error)
        return True


# Of SQLSTATE: disk full, out of memory.
_NO_SHARED_MEMORY = ("53100", "53200")


def _build(version_id: int, wanted: dict[str, str], *, drop: bool) -> None:
    name = index_name(version_id)
    with database.unlimited_cursor(wanted) as cursor:
        if drop:
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        cursor.execute(
            f"CREATE INDEX CONCURRENTLY {name} ON {_TABLE} USING hnsw (code bit_hamming_ops) "
            f"WITH (m = {_NEIGHBOURS}, ef_construction = {_LOOKED_AMONG}) WHERE version_id = {int(version_id)}"
        )
        cursor.execute(f"ANALYZE {_TABLE}")


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
