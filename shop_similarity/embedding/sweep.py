"""The sweep: finds what no signal saw and puts it right.

``bulk_create``, ``update()``, raw SQL, a restored backup, a file replaced under its name: all of them leave rows of the
shop and embeddings that disagree. The sweep compares both by the database alone, and, where asked to, every file's size
and time with what they were when it was embedded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from .. import database
from ..catalogue import FILE, PRODUCT, ImageRow, get_catalogue
from ..conf import get_settings
from ..models import Embedding, ModelVersion, OutboxEntry, SweepRun
from ..photos.file_marks import file_mark
from ..photos.storage_faults import final_sentence, is_busy
from . import bell, outbox

logger = logging.getLogger(__name__)

_CHUNK = 2_000


@dataclass
class SweepReport:
    """What a sweep did: photos queued (counted per version) and embeddings and entries without a photo removed."""

    enqueued: int = 0
    removed: int = 0
    # Another sweep was running, so this one did nothing.
    skipped: bool = False


@database.on_primary()
def sweep(
    *,
    files: bool = True,
    versions: QuerySet | None = None,
    priority: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> SweepReport:
    """Compare the catalogue with the embeddings of every live version and queue the differences.

    Only one sweep runs at a time in a database; another one returns at once with ``skipped``.

    Args:
        files: also compare the size and time of every file in the storage.
        versions: the versions to look after; all live ones by default.
        priority: of the photos it queues; by default a backfill for candidates, ahead of that for the others.
        progress: called with the number of photos examined since the last call.
    """
    with database.long_lock("sweep") as is_ours:
        if not is_ours:
            return SweepReport(skipped=True)
        run = SweepRun.objects.create(with_files=files)
        looked_after = ModelVersion.objects.live() if versions is None else versions
        priorities = {
            pk: _priority(state) if priority is None else priority
            for pk, state in looked_after.values_list("pk", "state")
        }
        report = SweepReport(removed=_remove_orphans())
        for version in priorities:
            for rows in _differing(version):
                report.enqueued += outbox.enqueue(version, rows, priority=priorities[version])
        if files:
            for rows, version in _changed_files(list(priorities), progress):
                report.enqueued += outbox.enqueue(version, rows, priority=priorities[version])
        if report.enqueued:
            database.on_commit(bell.ring)
        SweepRun.objects.filter(pk=run.pk).update(
            finished_at=timezone.now(), enqueued=report.enqueued, removed=report.removed
        )
        SweepRun.objects.filter(started_at__lt=timezone.now() - timedelta(days=14)).delete()
        return report


def _priority(state: str) -> int:
    # What a candidate lacks is its backfill, whoever notices.
    if state == ModelVersion.State.CANDIDATE:
        return OutboxEntry.Priority.BACKFILL
    return OutboxEntry.Priority.SWEPT


@database.on_primary()
def due_sweep() -> str | None:
    """Which sweep is due by the clock of the whole database: ``"files"``, ``"rows"`` or none."""
    settings = get_settings()
    now = timezone.now()
    for kind, seconds, runs in (
        ("files", settings.sweep_files_seconds, SweepRun.objects.filter(with_files=True)),
        ("rows", settings.sweep_seconds, SweepRun.objects.all()),
    ):
        if seconds and not runs.filter(started_at__gt=now - timedelta(seconds=seconds)).exists():
            return kind
    return None


def _remove_orphans() -> int:
    """Remove embeddings and entries whose photo is no longer there. Returns how many embeddings."""
    catalogue = get_catalogue()
    there = catalogue.images().order_by().filter(pk=OuterRef("image_id"))
    removed = 0
    for model in (OutboxEntry, Embedding):
        with database.long_atomic():
            removed = database.raw_delete(model.objects.filter(~Exists(there)))
    return removed


def _differing(version: int) -> Iterator[list[ImageRow]]:
    """Photos that the version lacks, or holds for another product or under another file name."""
    embedded = Embedding.objects.filter(
        version=version, image_id=OuterRef("pk"), product_id=OuterRef(PRODUCT), file_name=OuterRef(FILE)
    )
    waiting = OutboxEntry.objects.filter(version=version, image_id=OuterRef("pk"), failed_at__isnull=True)
    # A photo that failed under this name is looked at again only when its file has changed.
    failed = OutboxEntry.objects.filter(
        version=version,
        image_id=OuterRef("pk"),
        failed_at__isnull=False,
        product_id=OuterRef(PRODUCT),
        file_name__in=["", OuterRef(FILE)],
    )
    images = get_catalogue().images().filter(~Exists(embedded), ~Exists(waiting), ~Exists(failed))
    yield from _chunks(images)


def _changed_files(versions: list[int], progress: Callable[[int], None] | None) -> Iterator[tuple[list[ImageRow], int]]:
    """Photos whose file is not what a version embedded, or failed on."""
    catalogue = get_catalogue()
    storage = catalogue.storage
    trouble = _Trouble()
    for rows in _chunks(catalogue.images()):
        ids = [row.image_id for row in rows]
        marks: dict[tuple, str] = {}
        for model, extra in ((Embedding, {}), (OutboxEntry, {"failed_at__isnull": False})):
            known = model.objects.filter(version__in=versions, image_id__in=ids, **extra).exclude(file_name="")
            for version, image_id, name, mark in known.values_list("version_id", "image_id", "file_name", "file_mark"):
                marks[version, image_id, name] = mark
        waiting = set(
            OutboxEntry.objects.filter(version__in=versions, image_id__in=ids, failed_at__isnull=True).values_list(
                "version_id", "image_id"
            )
        )
        changed: dict[int, list[ImageRow]] = {}
        for row in rows:
            known_to = [v for v in versions if (v, row.image_id, row.file_name) in marks]
            if not known_to:
                continue
            try:
                now = file_mark(storage, row.file_name)
                trouble.passed()
            except Exception as error:
                if not final_sentence(error, row.file_name):
                    trouble.met(error)
                    continue
                # The worker will find it missing and say so on the photo.
                now = ""
            for version in known_to:
                if marks[version, row.image_id, row.file_name] != now and (version, row.image_id) not in waiting:
                    changed.setdefault(version, []).append(row)
        if progress is not None:
            progress(len(rows))
        for version, changed_rows in changed.items():
            yield changed_rows, version
    trouble.tell()


class _Trouble:
    """What the storage would not tell in one sweep; a storage that asks for it gets fewer requests."""

    _LONGEST_REST_SECONDS = 10.0

    def __init__(self) -> None:
        self.photos = 0
        self.last = ""
        self._rest = 0.0

    def met(self, error: Exception) -> None:
        self.photos += 1
        self.last = f"{type(error).__name__}: {error}"
        if is_busy(error):
            self._rest = min(max(2 * self._rest, 0.1), self._LONGEST_REST_SECONDS)
            time.sleep(self._rest)

    def passed(self) -> None:
        self._rest /= 2

    def tell(self) -> None:
        if self.photos:
            logger.warning(
                "The storage did not tell whether the files of %d photos have changed; the next sweep asks again. "
                "The last one: %s",
                self.photos,
                self.last,
            )


def _chunks(images: QuerySet) -> Iterator[list[ImageRow]]:
    """The image rows in pieces, by key, so that neither memory nor a snapshot grows with the catalogue."""
    catalogue = get_catalogue()
    last = None
    while True:
        page = images if last is None else images.filter(pk__gt=last)
        # Where nothing differs one statement walks through all of them.
        with database.long_atomic():
            rows = list(catalogue.rows(page.order_by("pk")[:_CHUNK]))
        if not rows:
            return
        last = rows[-1].image_id
        yield rows
