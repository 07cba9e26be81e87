"""The sweep: finds what no signal saw and puts it right.

``bulk_create``, ``update()``, raw SQL, a restored backup, a file replaced under its name: all of them leave rows of the
shop and embeddings that disagree. A sweep of the *rows* compares both by the database alone, a sweep of the *files*
every file's size and time with what they were when it was embedded. Both walk by key, in small steps, beside each
other. A walk that workers began by the clock keeps its place in the database, and whoever comes next goes on from
there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.files.storage import FileSystemStorage
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from .. import database
from ..catalogue import ImageRow, get_catalogue
from ..conf import get_settings
from ..models import Embedding, ModelVersion, OutboxEntry, SweepRun
from ..photos.file_marks import file_mark
from ..photos.storage_faults import final_sentence, is_busy
from . import bell, outbox

logger = logging.getLogger(__name__)

# Keys of one step, and files. The lists of keys go into the statements, so that their cost follows from nothing else.
_CHUNK = 2_000
_FILES_CHUNK = 400
# What is asked of a remote storage at a time.
_REQUESTS = 8
# The place of a walk is kept so often. One that was silent for longer has been cut off.
_NOTED_SECONDS = 2.0
_SILENT_SECONDS = 60
# A walk by the clock rests for so many times as long as a step of it took: it never ends in a catalogue that is large
# enough, and the database has other work.
_REST = 4
_LONGEST_REST_SECONDS = 5.0
_KEPT_DAYS = 14

_LOCKS = {False: "sweep", True: "sweep of files"}


class _Stopped(Exception):
    """Leaves a step that takes long."""


@dataclass
class SweepReport:
    """What a sweep did: photos queued (counted per version) and embeddings and entries without a photo removed."""

    enqueued: int = 0
    removed: int = 0
    # Another sweep was running, so this one did nothing, or left out the files.
    skipped: bool = False


@database.on_primary()
def sweep(
    *,
    files: bool = True,
    versions: QuerySet | None = None,
    priority: int | None = None,
    progress: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> SweepReport:
    """Compare the catalogue with the embeddings of every live version and queue the differences, from the first photo
    to the last.

    Only one such sweep of the rows and one of the files run at a time in a database, beside those by the clock; another
    one returns at once with ``skipped``.

    Args:
        files: also compare the size and time of every file in the storage.
        versions: the versions to look after; all live ones by default.
        priority: of the photos it queues; by default a backfill for candidates, ahead of that for the others.
        progress: called with the number of photos examined since the last call.
        stop: ends it after the step it is at.
    """
    report = SweepReport()
    for with_files in (False, True)[: 1 + files]:
        with database.long_lock(_LOCKS[with_files]) as is_ours:
            if not is_ours:
                report.skipped = True
                break
            # What is true of some versions alone says nothing about when the catalogue was compared.
            run = SweepRun.objects.create(with_files=with_files) if versions is None else SweepRun(pk=None)
            walk = _Walk(with_files, run, versions=versions, priority=priority, progress=progress, stop=stop)
            walk.walk()
            report.enqueued += walk.enqueued
            report.removed += walk.removed
    return report


@database.on_primary()
def go_on(*, files: bool, stop: threading.Event) -> SweepReport:
    """What workers do when a sweep is due: go on with the one that was cut off, or begin another.

    It rests between steps, and keeps its place where ``stop`` ends it.

    Args:
        files: whether the files are swept, or the rows.
        stop: ends it after the step it is at.
    """
    with database.long_lock(f"{_LOCKS[files]} by the clock") as is_ours:
        # Another worker may have done it between the question and the lock.
        if not is_ours or not is_due(files=files):
            return SweepReport(skipped=True)
        run = _cut_off(files) or SweepRun.objects.create(with_files=files, cursor={}, seen_at=timezone.now())
        walk = _Walk(files, run, stop=stop, rest=0 if files else _REST)
        walk.walk()
        return SweepReport(walk.enqueued - run.enqueued, walk.removed - run.removed)


@database.on_primary()
def is_due(*, files: bool) -> bool:
    """Whether a sweep of the files, or of the rows, is due by the clock of the whole database.

    One that was cut off is due at once: it counts as done only when it has come to the end.
    """
    settings = get_settings()
    seconds = settings.sweep_files_seconds if files else settings.sweep_seconds
    if not seconds:
        return False
    now = timezone.now()
    if run := _cut_off(files):
        return run.seen_at is None or run.seen_at < now - timedelta(seconds=_SILENT_SECONDS)
    done = SweepRun.objects.filter(
        with_files=files, finished_at__isnull=False, started_at__gt=now - timedelta(seconds=seconds)
    )
    return not done.exists()


def last_runs() -> tuple[SweepRun | None, list[SweepRun]]:
    """The last sweep that came to its end, and those by the clock that have not; one statement."""
    ended = SweepRun.objects.filter(finished_at__isnull=False).order_by("-id")[:1]
    under_way = SweepRun.objects.filter(finished_at__isnull=True, cursor__isnull=False).order_by()
    runs = sorted(ended.union(under_way, all=True), key=lambda run: run.pk)
    return next((run for run in runs if run.finished_at), None), [run for run in runs if not run.finished_at]


def _cut_off(files: bool) -> SweepRun | None:
    """The walk by the clock that has not come to its end, whether it is being walked or not."""
    return SweepRun.objects.filter(with_files=files, finished_at__isnull=True, cursor__isnull=False).first()


class _Walk:
    """A walk through all embeddings, entries and photos, by their keys.

    Its place is ``{}`` at the beginning, then the name of a stage, the key of a version where the stage has one, and
    the last key that was looked at, as text.

    Args:
        files: whether files are compared, or rows.
        run: the row that keeps its place; one that is not saved keeps nothing.
        rest: how many times as long as each step it rests after it.
    """

    def __init__(
        self,
        files: bool,
        run: SweepRun,
        *,
        versions: QuerySet | None = None,
        priority: int | None = None,
        progress: Callable[[int], None] | None = None,
        stop: threading.Event | None = None,
        rest: float = 0,
    ) -> None:
        self._files = files
        self._run = run
        self._progress = progress
        self._stop = stop or threading.Event()
        self._rest = rest
        self._is_kept = run.cursor is not None
        self._cursor: dict[str, Any] = run.cursor or {}
        self._next_note = time.monotonic() + _NOTED_SECONDS
        looked_after = ModelVersion.objects.live() if versions is None else versions
        self._priorities = {
            pk: _priority(state) if priority is None else priority
            for pk, state in looked_after.values_list("pk", "state")
        }
        self._storage = _Questions(get_catalogue().storage, self._alive)
        self.enqueued = run.enqueued
        self.removed = run.removed
        self._examined = run.examined

    def walk(self) -> None:
        try:
            steps = self._photos() if self._files else self._rows()
            began = time.monotonic()
            for self._cursor in steps:
                self._note()
                if self._stop.wait(min(self._rest * (time.monotonic() - began), _LONGEST_REST_SECONDS)):
                    break
                began = time.monotonic()
            else:
                self._run.finished_at = timezone.now()
        except _Stopped:
            pass
        finally:
            self._storage.close()
            self._note(at_once=True)
        if self._run.pk is not None:
            SweepRun.objects.filter(started_at__lt=timezone.now() - timedelta(days=_KEPT_DAYS)).exclude(
                pk=self._run.pk
            ).delete()

    def _alive(self) -> None:
        """Say that it goes on in the middle of a step that takes long, or end it there."""
        if self._stop.is_set():
            raise _Stopped
        if self._is_kept and time.monotonic() >= self._next_note:
            self._next_note = time.monotonic() + _NOTED_SECONDS
            SweepRun.objects.filter(pk=self._run.pk).update(seen_at=timezone.now())

    def _note(self, *, at_once: bool = False) -> None:
        """Keep how far it is. What is done between two notes is done again after a crash, and finds nothing to do."""
        if self._run.pk is None or (not at_once and time.monotonic() < self._next_note):
            return
        self._next_note = time.monotonic() + _NOTED_SECONDS
        SweepRun.objects.filter(pk=self._run.pk).update(
            cursor=self._cursor if self._is_kept else None,
            # One that ends in order leaves its place free at once.
            seen_at=None if at_once else timezone.now(),
            finished_at=self._run.finished_at,
            enqueued=self.enqueued,
            removed=self.removed,
            examined=self._examined,
        )

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Remove what has no photo, then queue photos that are not what a version embedded."""
        stages: list[tuple[str, type[Embedding | OutboxEntry]]] = [
            ("embeddings", Embedding),
            ("entries", OutboxEntry),
        ]
        begun = self._cursor.get("stage")
        if begun != "photos":
            versions = list(ModelVersion.objects.order_by("pk").values_list("pk", flat=True))
            for name, model in stages[begun == "entries" :]:
                for version in versions:
                    is_here = name == self._cursor.get("stage") and version == self._cursor["version"]
                    if name == self._cursor.get("stage") and version < self._cursor["version"]:
                        continue
                    key: Any = model._meta.get_field("image_id")
                    begin = key.to_python(self._cursor["after"]) if is_here else None
                    for after in self._orphans(model, version, begin):
                        yield {"stage": name, "version": version, "after": str(after)}
        yield from self._photos()

    def _orphans(self, model: type[Embedding | OutboxEntry], version: int, after: Any) -> Iterator[Any]:
        """Remove rows of a version whose photo is no longer there; yields the last key of each step."""
        images = get_catalogue().images().order_by()
        while True:
            rows = model.objects.filter(version=version, **({} if after is None else {"image_id__gt": after}))
            with database.long_atomic():
                keys = list(rows.order_by("image_id").values_list("image_id", flat=True)[:_CHUNK])
                if not keys:
                    return
                there = set(images.filter(pk__in=set(keys)).values_list("pk", flat=True))
                if gone := set(keys) - there:
                    # Looked at once more by the statement itself: the shop may have put a photo back this moment.
                    is_there = Exists(images.filter(pk=OuterRef("image_id")))
                    count = database.raw_delete(model.objects.filter(~is_there, version=version, image_id__in=gone))
                    self.removed += count if model is Embedding else 0
            after = keys[-1]
            yield after
            if len(keys) < _CHUNK:
                return

    def _photos(self) -> Iterator[dict[str, Any]]:
        """Queue photos that differ, by their rows or by their files."""
        catalogue = get_catalogue()
        after = None
        if self._cursor.get("stage") == "photos":
            after = catalogue.image_model._meta.pk.to_python(self._cursor["after"])
        versions = list(self._priorities)
        size = _FILES_CHUNK if self._files else _CHUNK
        while versions:
            page = catalogue.images()
            if after is not None:
                page = page.filter(pk__gt=after)
            with database.long_atomic():
                rows = list(catalogue.rows(page.order_by("pk")[:size]))
                known = _Known(versions, [row.image_id for row in rows])
            differing = known.other_files(rows, self._storage) if self._files else known.other_rows(rows)
            for version, found in differing.items():
                with database.long_atomic():
                    self.enqueued += outbox.enqueue(version, found, priority=self._priorities[version])
                    database.on_commit(bell.ring)
            if not rows:
                break
            self._examined += len(rows)
            if self._progress is not None:
                self._progress(len(rows))
            after = rows[-1].image_id
            yield {"stage": "photos", "after": str(after)}
            if len(rows) < size:
                break
        self._storage.tell()


def _priority(state: str) -> int:
    # What a candidate lacks is its backfill, whoever notices.
    if state == ModelVersion.State.CANDIDATE:
        return OutboxEntry.Priority.BACKFILL
    return OutboxEntry.Priority.SWEPT


class _Known:
    """What the database has of some photos, for some versions."""

    def __init__(self, versions: Collection[int], image_ids: Collection[Any]) -> None:
        self._versions = versions
        # By version and photo: product, name and mark of the file that was embedded, and of those that failed.
        self._embedded: dict[tuple, tuple] = {}
        self._failed: dict[tuple, list[tuple]] = {}
        self._waiting: set[tuple] = set()
        columns = ("version_id", "image_id", "product_id", "file_name", "file_mark")
        of_these = {"version__in": versions, "image_id__in": image_ids}
        for version, image, *values in Embedding.objects.filter(**of_these).values_list(*columns):
            self._embedded[version, image] = tuple(values)
        for version, image, *values, failed_at in OutboxEntry.objects.filter(**of_these).values_list(
            *columns, "failed_at"
        ):
            if failed_at is None:
                self._waiting.add((version, image))
            else:
                self._failed.setdefault((version, image), []).append(tuple(values))

    def other_rows(self, rows: Iterable[ImageRow]) -> dict[int, list[ImageRow]]:
        """Photos that a version lacks, or holds for another product or under another file name, by version."""
        found: dict[int, list[ImageRow]] = {}
        for row in rows:
            for version in self._versions:
                key = version, row.image_id
                is_embedded = self._embedded.get(key, ())[:2] == (row.product_id, row.file_name)
                # A photo that failed under this name is looked at again only when its file has changed.
                has_failed = any(
                    product == row.product_id and name in ("", row.file_name)
                    for product, name, _mark in self._failed.get(key, ())
                )
                if not is_embedded and not has_failed and key not in self._waiting:
                    found.setdefault(version, []).append(row)
        return found

    def other_files(self, rows: Iterable[ImageRow], questions: _Questions) -> dict[int, list[ImageRow]]:
        """Photos whose file is not what a version embedded, or failed on, by version."""
        marks: dict[tuple, str] = {}
        for key, old in [*self._embedded.items(), *((key, old) for key, all_ in self._failed.items() for old in all_)]:
            _product, name, mark = old
            if name:
                marks[(*key, name)] = mark
        asked = [row for row in rows if any((v, row.image_id, row.file_name) in marks for v in self._versions)]
        found: dict[int, list[ImageRow]] = {}
        for row, now in questions.marks(asked):
            for version in self._versions:
                mark = marks.get((version, row.image_id, row.file_name))
                if mark is not None and mark != now and (version, row.image_id) not in self._waiting:
                    found.setdefault(version, []).append(row)
        return found


class _Questions:
    """Questions to the storage, several at a time where it is a remote one, and fewer where it asks for that.

    Args:
        storage: of the photos.
        alive: called after each answer.
    """

    _LONGEST_REST_SECONDS = 10.0

    def __init__(self, storage: Any, alive: Callable[[], None]) -> None:
        self._storage = storage
        self._alive = alive
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._rest = 0.0
        self._photos = 0
        self._last = ""

    def marks(self, rows: Collection[ImageRow]) -> Iterator[tuple[ImageRow, str]]:
        """Each row with the mark of its file now; without those of which the storage does not tell."""
        if isinstance(self._storage, FileSystemStorage):
            answers: Iterable[str | None] = map(self._ask, rows)
        else:
            self._threads = self._threads or ThreadPoolExecutor(_REQUESTS, "shop-similarity-sweep")
            answers = self._threads.map(self._ask_in_a_thread, rows)
        for row, mark in zip(rows, answers, strict=True):
            self._alive()
            if mark is not None:
                yield row, mark

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def tell(self) -> None:
        """Say in the log what the storage did not tell."""
        if self._photos:
            logger.warning(
                "The storage did not tell whether the files of %d photos have changed; the next sweep asks again. "
                "The last one: %s",
                self._photos,
                self._last,
            )

    def _ask_in_a_thread(self, row: ImageRow) -> str | None:
        try:
            return self._ask(row)
        finally:
            # A storage may be a table.
            database.close_connections()

    def _ask(self, row: ImageRow) -> str | None:
        time.sleep(self._rest)
        try:
            mark = file_mark(self._storage, row.file_name)
        except Exception as error:
            if final_sentence(error, row.file_name):
                # The worker will find it missing and say so on the photo.
                return ""
            with self._lock:
                self._photos += 1
                self._last = f"{type(error).__name__}: {error}"
                if is_busy(error):
                    self._rest = min(max(2 * self._rest, 0.1), self._LONGEST_REST_SECONDS)
            return None
        with self._lock:
            self._rest /= 2
        return mark
