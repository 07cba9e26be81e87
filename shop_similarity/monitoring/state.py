"""What the database says of queue, workers, index and recall, at a cost that does not grow with the catalogue.

Nothing here counts further than :data:`MOST`, and each statement goes by an index that holds what it asks for and no
more; only the rows of workers, of which there are a few, are read as they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Max, Q
from django.utils import timezone

from .. import database
from ..embedding.index import index_name, index_states
from ..models import Embedding, Heartbeat, ModelVersion, OutboxEntry, RecallSample

# So many entries of a kind are counted; more are told as so many.
MOST = 10_000
# A worker leaves a sign every half minute.
ALIVE_SECONDS = 120

_OUTBOX = OutboxEntry._meta.db_table
_VERSION = ModelVersion._meta.db_table
_READY = "o.version_id = v.id AND o.failed_at IS NULL AND o.due_at IS NULL AND o.leased_until IS NULL"


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """A transaction of reads, none of which may take longer.

    Raises:
        OperationalError: a statement took longer, or the database is away.
    """
    alias = database.read_alias()
    with database.atomic(alias):
        with database.cursor(alias) as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{max(int(seconds * 1_000), 1)}ms"])
        yield


def active_version() -> ModelVersion | None:
    return ModelVersion.objects.only("pk", "name", "weights").active()


@dataclass(frozen=True)
class Queue:
    """What waits in the outbox for one live version.

    Attributes:
        version: its name.
        is_active: whether pages search with it.
        ready: entries that a worker could claim, counted up to :data:`MOST`.
        failed: photos given up, counted up to :data:`MOST`.
        oldest: since when the first entry of each priority waits: saved, found by a sweep, backfill; None: none does.
    """

    version: str
    is_active: bool
    ready: int
    failed: int
    oldest: tuple[datetime | None, ...]

    def age(self, priority: int) -> float:
        """For how many seconds the first entry of a priority (its place in ``oldest``) has waited; 0: there is none."""
        since = self.oldest[priority]
        return max((timezone.now() - since).total_seconds(), 0.0) if since is not None else 0.0


PRIORITIES = tuple(priority.name.lower() for priority in OutboxEntry.Priority)


def queues(version_id: int | None = None) -> list[Queue]:
    """What waits for each live version, or for one of them. One statement."""
    firsts = ", ".join(
        # As a range: by equality the order of the index would be that of the primary key, see outbox.has_backfill().
        f"(SELECT o.created_at FROM {_OUTBOX} o WHERE {_READY} AND o.priority BETWEEN {int(p)} AND {int(p)} "
        "ORDER BY o.priority, o.id LIMIT 1)"
        for p in OutboxEntry.Priority
    )
    with database.cursor(database.read_alias()) as cursor:
        cursor.execute(
            f"""SELECT v.name, v.state = %s,
                (SELECT count(*) FROM (SELECT 1 FROM {_OUTBOX} o WHERE {_READY}
                    ORDER BY o.priority, o.id LIMIT %s) few),
                (SELECT count(*) FROM (SELECT 1 FROM {_OUTBOX} o WHERE o.version_id = v.id AND o.failed_at IS NOT NULL
                    ORDER BY o.failed_at LIMIT %s) few),
                {firsts}
            FROM {_VERSION} v WHERE v.state = ANY(%s) AND (%s::bigint IS NULL OR v.id = %s) ORDER BY v.id""",
            [
                ModelVersion.State.ACTIVE.value,
                MOST,
                MOST,
                [state.value for state in ModelVersion.LIVE],
                version_id,
                version_id,
            ],
        )
        return [
            Queue(name, is_active, ready, failed, tuple(oldest))
            for name, is_active, ready, failed, *oldest in cursor.fetchall()
        ]


def elsewhere() -> tuple[int, int]:
    """Entries that are to be tried later, and entries that workers hold, each counted up to :data:`MOST`."""
    with database.cursor(database.read_alias()) as cursor:
        cursor.execute(
            f"""SELECT
                (SELECT count(*) FROM (SELECT 1 FROM {_OUTBOX} o WHERE o.failed_at IS NULL AND o.due_at IS NOT NULL
                    ORDER BY o.due_at LIMIT %s) few),
                (SELECT count(*) FROM (SELECT 1 FROM {_OUTBOX} o WHERE o.leased_until IS NOT NULL
                    ORDER BY o.leased_until LIMIT %s) few)""",
            [MOST, MOST],
        )
        return cursor.fetchone()


@dataclass(frozen=True)
class Workers:
    """Attributes:
    alive: workers that left a sign within :data:`ALIVE_SECONDS`.
    seen_at: when any worker left the last; None: none did for two weeks.
    """

    alive: int
    seen_at: datetime | None


def workers(host: str = "") -> Workers:
    """Signs of life of all workers, or of those on one host."""
    since = timezone.now() - timedelta(seconds=ALIVE_SECONDS)
    rows = Heartbeat.objects.filter(worker__startswith=f"{host}|") if host else Heartbeat.objects.all()
    found = rows.aggregate(alive=Count("pk", filter=Q(seen_at__gte=since)), seen_at=Max("seen_at"))
    return Workers(found["alive"], found["seen_at"])


@dataclass(frozen=True)
class Index:
    """The index of one live version.

    Attributes:
        version: its name.
        state: as of :class:`shop_similarity.embedding.index.IndexState`.
        bytes: on disk.
        photos: about so many are in it, as of the last VACUUM or ANALYZE.
    """

    version: str
    state: str
    bytes: int
    photos: int


def indexes() -> list[Index]:
    """The indexes of the live versions. Three statements."""
    versions = dict(ModelVersion.objects.live().order_by("pk").values_list("pk", "name"))
    states = index_states(list(versions))
    with database.cursor(database.read_alias()) as cursor:
        cursor.execute(
            "SELECT relname, greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = ANY("
            "SELECT to_regclass(name)::oid FROM unnest(%s::text[]) name)",
            [[index_name(pk) for pk in versions]],
        )
        photos = dict(cursor.fetchall())
    return [
        Index(name, states[pk].state, states[pk].bytes, photos.get(index_name(pk), 0)) for pk, name in versions.items()
    ]


def embeddings() -> int:
    """About how many embeddings there are of all versions together, as Postgres knows without counting."""
    with database.cursor(database.read_alias()) as cursor:
        cursor.execute(
            "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %s::regclass", [Embedding._meta.db_table]
        )
        return cursor.fetchone()[0]


def last_recall(version: ModelVersion) -> RecallSample | None:
    """What was last measured of a version."""
    return RecallSample.objects.filter(version=version).order_by("-measured_at").first()
