"""Copies of embeddings in an engine beside Postgres: filled once, then fed with what changes.

From the moment that a version has a row in ``EngineCopy`` a trigger notes each embedding that is written or removed,
in the transaction that does it, whoever does it. Whoever feeds the engine walks through all embeddings once, then tells
it of what was noted, and strikes out what it has told. So an engine that is down, slow or killed loses nothing, and one
that has lost its data is filled anew by the same walk.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.utils import timezone

from ... import database
from ...catalogue import get_catalogue
from ...conf import get_settings
from ...engine_errors import EngineDown
from ...models import EMBEDDING_DIM, Embedding, EngineChange, EngineCopy, ModelVersion
from ..magnitudes import count
from .choice import get_engine, is_beside
from .interface import Copy, Engine

logger = logging.getLogger(__name__)

_TABLE = Embedding._meta.db_table
_CHANGES = EngineChange._meta.db_table
_BATCH = 1_000
# An engine that says nothing is asked so often whether its copies are still there.
_LOOK_SECONDS = 60.0
_next_look = 0.0
_TRIGGERS = {"INSERT": "NEW", "UPDATE": "NEW", "DELETE": "OLD"}
# Taking the lock of the table for a trigger waits for whoever writes, and whoever comes next waits behind it.
_LONGEST_WAIT = "3s"


@dataclass
class Progress:
    """How far feeding an engine is.

    Attributes:
        version: name of the version.
        told: photos that the engine was told of since the feeding began.
        left: photos that it is still to be told of, about.
        seconds: since the feeding began.
    """

    version: str
    told: int = 0
    left: int = 0
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """None as long as nothing is known."""
        return self.left * self.seconds / self.told if self.told else None


def copy_of(row: EngineCopy) -> Copy:
    return Copy(row.version_id, row.name)


def wanted_copy(version_id: int) -> EngineCopy | None:
    """The copy that the chosen engine has of a version, whatever its state."""
    return EngineCopy.objects.filter(version_id=version_id, is_wanted=True, engine=get_settings().engine).first()


@database.on_primary()
def is_due() -> bool:
    """Whether there is anything to tell the engine, to drop or to look after; two short statements at most."""
    global _next_look
    if is_beside() and _is_any_noted():
        return True
    if time.monotonic() < _next_look:
        return False
    _next_look = time.monotonic() + _LOOK_SECONDS
    return is_beside() or EngineCopy.objects.exists()


def _is_any_noted() -> bool:
    # In the order of an index: what was told and struck out lies in the table until VACUUM comes by, and reading it as
    # it lies would read all of that.
    return EngineChange.objects.order_by("id").values_list("pk", flat=True).first() is not None


@database.on_primary()
def feed(
    *,
    versions: Sequence[int] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Bring the engine up to date with Postgres: make copies of live versions, fill them, tell what changed, drop those
    of versions that are retired or gone. Returns how many photos it was told of.

    Several processes share the work, a version each. What one that dies leaves undone the next one does. Where the
    engine chosen is pgvector, what an engine beside it had needed is removed from Postgres.

    Args:
        versions: keys of the versions to look after; all live ones by default.
        progress: called after every batch.
        stopped: asked after every batch, ends the work.

    Raises:
        EngineDown: it does not answer.
    """
    if not is_beside():
        _forget_engines()
        return 0
    engine = get_engine()
    told = 0
    live = ModelVersion.objects.live().defer("metrics", "config", "preprocessing")
    for version in sorted(live, key=lambda version: version.rank):
        if versions is not None and version.pk not in versions:
            continue
        with database.long_lock(f"engine copy {version.pk}") as is_ours:
            if is_ours and not stopped():
                row = _ensured(version.pk)
                with _noted(row):
                    told += _Feeder(engine, row, version.name, progress, stopped).feed()
    _drop_unwanted(engine)
    return told


def give_up(version_id: int) -> None:
    """Note that a version's copy is not wanted any more. The next feeding drops it: here a request may be waiting."""
    if EngineCopy.objects.filter(version_id=version_id, is_wanted=True).update(is_wanted=False):
        database.raw_delete(EngineChange.objects.filter(version_id=version_id))


def _drop_unwanted(engine: Engine) -> None:
    live = ModelVersion.objects.live().values("pk")
    gone = EngineCopy.objects.filter(is_wanted=True).exclude(version_id__in=live)
    for version_id in set(gone.values_list("version_id", flat=True)):
        give_up(version_id)
    others = EngineCopy.objects.exclude(engine=get_settings().engine)
    for row in others:
        logger.warning(
            "%s had a copy named %s: remove it there, for ENGINE names another one now.", row.engine, row.name
        )
    _forget(others)
    # Noted by a transaction that began when there was a copy still, and ended when there was none.
    wanted = EngineCopy.objects.filter(is_wanted=True)
    database.raw_delete(EngineChange.objects.exclude(version_id__in=wanted.values("version_id")))
    for row in EngineCopy.objects.filter(is_wanted=False):
        engine.drop(copy_of(row))
        row.delete()


def _forget_engines() -> None:
    rows = EngineCopy.objects.all()
    for row in rows:
        logger.warning("%s had a copy named %s: remove it there, for ENGINE is pgvector now.", row.engine, row.name)
    with database.short_atomic(), database.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [_LONGEST_WAIT])
        for event in _TRIGGERS:
            cursor.execute(f"DROP TRIGGER IF EXISTS {_trigger(event)} ON {_TABLE}")
    database.raw_delete(EngineChange.objects.all())
    # Last: as long as there is a row, workers know that something is left to be done.
    _forget(rows)


def _forget(rows: Any) -> None:
    for row in rows:
        database.raw_delete(EngineChange.objects.filter(version_id=row.version_id))
        row.delete()


def _trigger(event: str) -> str:
    return f"shop_similarity_engine_{event.lower()}"


def _ensured(version_id: int) -> EngineCopy:
    """The row of a version's copy. From its commit on every change is noted."""
    if (row := wanted_copy(version_id)) is not None:
        return row
    prefix = (get_settings().engine_options or {}).get("prefix", "shop_similarity")
    name = f"{prefix}_v{version_id}_{secrets.token_hex(4)}"
    with database.short_atomic(), database.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [_LONGEST_WAIT])
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", [_TABLE])
        there = {trigger for (trigger,) in cursor.fetchall()}
        for event, rows in _TRIGGERS.items():
            if _trigger(event) not in there:
                cursor.execute(
                    f"CREATE TRIGGER {_trigger(event)} AFTER {event} ON {_TABLE} REFERENCING {rows} TABLE AS changed "
                    "FOR EACH STATEMENT EXECUTE FUNCTION shop_similarity_note_changes()"
                )
        row = EngineCopy.objects.create(version_id=version_id, engine=get_settings().engine, name=name)
    with database.short_atomic():
        # Whoever was writing before that commit has ended when this lock is had.
        database.lock_for_switching()
    return row


@contextmanager
def _noted(row: EngineCopy) -> Iterator[None]:
    """Keep with the copy whether the engine answered."""
    rows = EngineCopy.objects.filter(pk=row.pk)
    try:
        yield
    except EngineDown as error:
        rows.update(error=database.storable(str(error)))
        raise
    rows.update(error="", seen_at=timezone.now())


class _Feeder:
    """Feeds one copy."""

    def __init__(
        self,
        engine: Engine,
        row: EngineCopy,
        name: str,
        progress: Callable[[Progress], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._row = row
        self._copy = copy_of(row)
        self._stopped = stopped
        self._report = progress
        self._progress = Progress(name)
        self._began = time.monotonic()

    def feed(self) -> int:
        state = self._engine.state(self._copy)
        # Of a copy that is being filled an engine may not tell yet what it holds.
        if not state.exists or (self._row.filled_at and self._row.photos and not state.photos):
            if self._row.photos:
                logger.warning("The engine has lost its copy %s; it is filled anew.", self._copy.name)
            self._save(cursor="", photos=0, filled_at=None)
            # As many as there will be: a candidate's come one by one.
            self._engine.build(self._copy, count(get_catalogue().images()))
        else:
            # An engine that was started again may have to load what it has.
            self._engine.build(self._copy, 0)
        if self._row.filled_at is None:
            self._fill()
        if not self._stopped():
            self._catch_up()
        return self._progress.told

    def _fill(self) -> None:
        embeddings = Embedding.objects.filter(version=self._row.version_id)
        to_python = Embedding._meta.get_field("image_id").to_python
        rest = embeddings.filter(image_id__gt=to_python(self._row.cursor)) if self._row.cursor else embeddings
        self._progress.left = count(rest)
        after = to_python(self._row.cursor) if self._row.cursor else None
        while not self._stopped():
            page = embeddings if after is None else embeddings.filter(image_id__gt=after)
            keys = list(page.order_by("image_id").values_list("pk", "image_id")[:_BATCH])
            if not keys:
                break
            self._tell([pk for pk, _image in keys])
            after = keys[-1][1]
            self._save(cursor=str(after), photos=self._row.photos + len(keys))
        else:
            return
        self._engine.build(self._copy, self._row.photos)
        self._save(filled_at=timezone.now())
        logger.info("%s photos are in the engine's copy %s.", self._row.photos, self._copy.name)

    def _catch_up(self) -> None:
        changes = EngineChange.objects.filter(version_id=self._row.version_id)
        self._progress.left = count(changes)
        while not self._stopped():
            first = changes.order_by("id").values_list("pk", flat=True).first()
            if first is None:
                return
            # From key to key: of a thousand at a time Postgres may sort all of them for each thousand, where it has not
            # counted them since they came.
            batch = list(changes.filter(pk__range=(first, first + _BATCH - 1)).values_list("pk", "embedding_id"))
            if not batch:
                # Struck out meanwhile, by a request that gives the version up.
                continue
            keys = list(dict.fromkeys(key for _id, key in batch))
            self._tell(keys)
            with database.short_atomic():
                struck = database.raw_delete(EngineChange.objects.filter(pk__in=[pk for pk, _key in batch]))
                if struck < len(batch):
                    # Somebody else told of them too, maybe later than this one knew them: once more.
                    EngineChange.objects.bulk_create(
                        [EngineChange(version_id=self._row.version_id, embedding_id=key) for key in keys]
                    )

    def _tell(self, keys: Sequence[int]) -> None:
        """Tell the engine what Postgres has of these embeddings now."""
        rows = _rows(self._engine, self._row.version_id, keys)
        if rows:
            self._engine.upsert(self._copy, list(rows), np.stack(list(rows.values())))
        if gone := [key for key in keys if key not in rows]:
            self._engine.delete(self._copy, gone)
        self._progress.told += len(keys)
        self._progress.left = max(self._progress.left - len(keys), 0)
        self._progress.seconds = time.monotonic() - self._began
        self._report(self._progress)

    def _save(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self._row, name, value)
        EngineCopy.objects.filter(pk=self._row.pk).update(**values)


def _rows(engine: Engine, version_id: int, keys: Sequence[int]) -> dict[int, np.ndarray]:
    """What the engine holds of these embeddings, by key, as bytes of Postgres' own form: a vector as text is slow."""
    with database.cursor() as cursor:
        # By the keys alone: of a version that is new Postgres may think that it has hardly any, and read all of it.
        cursor.execute(
            f"SELECT id, version_id, {sent(engine)} FROM {_TABLE} WHERE id = ANY(%s) ORDER BY id", [list(keys)]
        )
        return {key: received(engine, value) for key, version, value in cursor.fetchall() if version == version_id}


def sent(engine: Engine) -> str:
    """The expression by which Postgres sends of an embedding what the engine holds."""
    return "bit_send(code)" if engine.holds == "codes" else "halfvec_send(vector)"


def received(engine: Engine, value: bytes) -> np.ndarray:
    """What :func:`sent` sends; four bytes with the length come first."""
    if engine.holds == "codes":
        return np.frombuffer(value, np.uint8, EMBEDDING_DIM // 8, offset=4)
    return np.frombuffer(value, ">f2", EMBEDDING_DIM, offset=4).astype(np.float16)
