"""The outbox: which photos wait to be embedded. It is the queue's only truth; Celery merely rings a bell.

The shop's transactions only insert, workers only claim and delete what they claimed. A claim is a lease, no lock: it is
committed before the work begins, so that the number of tries survives a killed worker and no save ever waits for one.

At most one worker has a photo of a version at a time, whatever the number of its entries: of two, the slower one could
write what the file held before. A worker that was stopped for longer than its lease lasts finds out that the claim is
no longer its own, and settles nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import Case, Count, Exists, F, Max, Min, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Greatest
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import database
from ..catalogue import FILE, PRODUCT, ImageRow, get_catalogue
from ..conf import get_settings
from ..models import Embedding, ModelVersion, OutboxEntry
from .magnitudes import COUNTED, Number, count

_OUTBOX = OutboxEntry._meta.db_table
_EMBEDDING = Embedding._meta.db_table
_VERSION = ModelVersion._meta.db_table
_LIVE = [state.value for state in ModelVersion.LIVE]
# Entries that are made ready at once.
_PORTION = 1_000
# What libraries say may be pages long.
_LONGEST_ERROR = 2_000


@dataclass(frozen=True)
class Claim:
    """A photo that this worker has to itself until the lease ends."""

    image_id: Any
    # All entries of the photo that the claim covers.
    entry_ids: tuple[int, ...]
    # How often the photo has been claimed, this time included.
    attempts: int
    # Whether the shop has just saved it: its file may be another one, though size and time are the same.
    is_saved: bool = False
    # When its lease ends and whose it is, which tells it from every other claim of the same entries; None: whoever has
    # claimed them.
    leased_until: datetime | None = None
    worker: str = ""


# Rows of a photo and a version, found in the order of their index. By equality, and in a table that was empty when
# Postgres last counted it, the planner takes any index that begins with the version, and walks over all that waits.
# One that is a level lower it takes even so: the outbox must have no other over all of its rows.
_IN_ORDER = "version_id = v.id AND image_id BETWEEN photo.image AND photo.image ORDER BY image_id"
_IS_QUEUED = f"EXISTS (SELECT 1 FROM {_OUTBOX} WHERE {_IN_ORDER} OFFSET 0)"
_IS_WAITING = _IS_QUEUED.replace("WHERE", "WHERE leased_until IS NULL AND failed_at IS NULL AND")


def enqueue_saved(photos: QuerySet, *, new_file: bool, using: str) -> bool:
    """Queue photos that were just saved, for every live version. One statement; returns whether it queued anything.

    Versions that already hold this photo of this product under this file name get an entry too, for the file may have
    been written anew under its name, but one that waits behind new photos and at most once.

    Args:
        photos: rows of :meth:`Catalogue.images`.
        new_file: whether their file was written by the save.
        using: alias of the database that the shop saves in.
    """
    return _enqueue_rows(photos, f"NOT (known.as_it_is AND {_IS_WAITING})", new_file=new_file, using=using) > 0


def enqueue_missing_of_products(product_ids: Collection[Any], *, using: str) -> int:
    """Queue the photos of products that a live version neither holds nor waits for. Returns how many rows.

    One statement, of which the shop's process reads nothing, however many photos a product has.
    """
    photos = get_catalogue().images_of(product_ids)
    return _enqueue_rows(photos, f"NOT known.as_it_is AND NOT {_IS_QUEUED}", new_file=False, using=using)


def _enqueue_rows(photos: QuerySet, wanted: str, *, new_file: bool, using: str) -> int:
    """Queue photos for the live versions for which an SQL condition holds; returns how many rows.

    It may ask whether the version holds the photo as it is, ``known.as_it_is``.
    """
    try:
        query = photos.using(using).order_by().values_list("pk", PRODUCT, FILE).query
        rows, parameters = query.get_compiler(using=using).as_sql()
    except EmptyResultSet:
        return 0
    with database.cursor(using) as cursor:
        cursor.execute(
            f"""INSERT INTO {_OUTBOX}
                (version_id, product_id, image_id, priority, created_at, attempts, claimed_by, last_error,
                 file_name, file_mark)
            SELECT v.id, photo.product, photo.image, CASE WHEN known.as_it_is THEN %s ELSE %s END,
                   now(), 0, '', '', '', ''
            FROM ({rows}) photo (image, product, file) CROSS JOIN {_VERSION} v CROSS JOIN LATERAL (
                SELECT NOT %s AND EXISTS (
                    -- By whichever index that begins with the version: it reads rows of one product at most.
                    SELECT 1 FROM {_EMBEDDING} WHERE version_id = v.id AND product_id = photo.product
                        AND image_id = photo.image AND file_name = photo.file OFFSET 0
                ) AS as_it_is OFFSET 0
            ) known
            WHERE v.state = ANY(%s) AND {wanted}""",
            [OutboxEntry.Priority.SWEPT.value, OutboxEntry.Priority.SAVED.value, *parameters, new_file, _LIVE],
        )
        return cursor.rowcount


def enqueue(
    version_id: int,
    rows: Iterable[ImageRow],
    *,
    priority: int = OutboxEntry.Priority.SAVED,
    using: str | None = None,
) -> int:
    """Queue photos for one version. Returns how many rows were added."""
    entries = [
        OutboxEntry(version_id=version_id, product_id=row.product_id, image_id=row.image_id, priority=priority)
        for row in rows
    ]
    OutboxEntry.objects.using(using or database.write_alias()).bulk_create(entries, batch_size=2_000)
    return len(entries)


# As the condition of the index.
_READY = {"failed_at__isnull": True, "due_at__isnull": True, "leased_until__isnull": True}


def _claimable() -> QuerySet[OutboxEntry]:
    """Entries that are ready, of photos that nobody has at the moment."""
    at_work = OutboxEntry.objects.filter(
        version=OuterRef("version"),
        image_id=OuterRef("image_id"),
        failed_at__isnull=True,
        leased_until__gte=timezone.now(),
    )
    return OutboxEntry.objects.filter(~Exists(at_work), **_READY)


def _waited_enough() -> tuple[QuerySet[OutboxEntry], QuerySet[OutboxEntry]]:
    """Entries whose next try is due, and those whose lease has ended by itself."""
    now = timezone.now()
    return (
        OutboxEntry.objects.filter(failed_at__isnull=True, due_at__lte=now, leased_until__isnull=True),
        OutboxEntry.objects.filter(leased_until__lt=now, failed_at__isnull=True),
    )


def make_ready() -> None:
    """Let what has waited enough be claimed; whoever claims or looks for work calls it."""
    later, lost = _waited_enough()
    # Twice for each batch, and nearly always in vain: one statement then, and no transaction.
    using = database.write_alias()
    due, ended = (
        rows.using(using).order_by(column).values_list("pk", flat=True)[:1]
        for rows, column in ((later, "due_at"), (lost, "leased_until"))
    )
    # Django 6.1 sorts a union as the model is sorted, by columns that are not in it.
    if not list(due.union(ended, all=True).order_by()):
        return
    with database.short_atomic():
        # What another worker is at this moment is ready for both afterwards, or taken.
        if ids := list(_first(lost, "leased_until")):
            count_death(OutboxEntry.objects.filter(pk__in=ids))
        if ids := list(_first(later, "due_at")):
            OutboxEntry.objects.filter(pk__in=ids).update(due_at=None)


def _first(entries: QuerySet[OutboxEntry], column: str) -> QuerySet:
    return entries.select_for_update(skip_locked=True).order_by(column).values_list("pk", flat=True)[:_PORTION]


def _ours(claims: Sequence[Claim]) -> QuerySet[OutboxEntry]:
    """The entries of these claims, without those that somebody else has claimed since."""
    ids: dict[tuple, list[int]] = {}
    for claim_ in claims:
        ids.setdefault((claim_.leased_until, claim_.worker), []).extend(claim_.entry_ids)
    held = [
        Q(pk__in=keys) & (Q() if lease is None else Q(leased_until=lease, claimed_by=worker))
        for (lease, worker), keys in ids.items()
    ]
    return OutboxEntry.objects.using(database.write_alias()).filter(reduce(or_, held, Q(pk__in=[])))


def has_due(version_id: int | None = None) -> bool:
    """Whether an entry waits that a worker could claim now."""
    later, lost = _waited_enough()
    versions, of_these = _with_urgency(), Q(version__state__in=_LIVE)
    if version_id is not None:
        versions, of_these = versions.filter(pk=version_id), of_these & Q(version=version_id)
    return (
        versions.exists() or _is_any(later.filter(of_these), "due_at") or _is_any(lost.filter(of_these), "leased_until")
    )


def _is_any(entries: QuerySet[OutboxEntry], *order: str) -> bool:
    """Whether there is any, found in the order of an index: without one Postgres may walk over all that is none, where
    it expects to meet one soon.
    """
    return entries.order_by(*order).values_list("pk", flat=True).first() is not None


def has_backfill(version_id: int) -> bool:
    """Whether a backfill of the version goes on: something of it can be claimed now or is claimed."""
    # Not by equality, which would make the order of their index that of the primary key.
    of_backfill = {"version": version_id, "priority__gte": OutboxEntry.Priority.BACKFILL}
    later, _lost = _waited_enough()
    return (
        _is_any(OutboxEntry.objects.filter(**of_backfill, **_READY), "priority", "id")
        or _is_any(later.filter(**of_backfill), "due_at")
        or _is_any(
            OutboxEntry.objects.filter(**of_backfill, failed_at__isnull=True, leased_until__isnull=False),
            "leased_until",
        )
    )


def claimed_elsewhere(version_ids: Sequence[int]) -> bool:
    """Whether somebody holds a claim on a photo of these versions right now."""
    return OutboxEntry.objects.filter(
        version__in=version_ids, failed_at__isnull=True, leased_until__gte=timezone.now()
    ).exists()


def _with_urgency() -> QuerySet[Any]:
    """Live versions with claimable entries, each with the priority of the first."""
    entries = _claimable().filter(version=OuterRef("pk"))
    first = Subquery(entries.order_by("priority", "id").values("priority")[:1])
    return ModelVersion.objects.live().annotate(urgency=first).filter(urgency__isnull=False)


def versions_with_work() -> list[int]:
    """Live versions with claimable entries, in the order in which they should be served.

    A backfill comes after everything that the shop has just changed, whatever version it is for. Apart from that the
    active version comes first, then the one to go back to, then the candidates.
    """
    make_ready()
    versions = _with_urgency().values_list("pk", "state", "urgency")
    rank = {state: number for number, state in enumerate(_LIVE)}
    ordered = sorted(versions, key=lambda row: (row[2] >= OutboxEntry.Priority.BACKFILL, rank[row[1]], row[0]))
    return [pk for pk, _state, _urgency in ordered]


def has_saved(version_id: int) -> bool:
    """Whether a photo can be claimed for the version that the shop has just saved."""
    saved = _claimable().filter(version=version_id, priority__lte=OutboxEntry.Priority.SAVED)
    return _is_any(saved, "priority", "id")


def claim(version_id: int, limit: int, worker: str, *, saved: bool = False) -> list[Claim]:
    """Claim up to ``limit`` photos of a version, what the shop has just saved first, committed at once.

    A photo that was claimed before and never came back may be what killed its worker, so it is claimed alone, after
    all others of its priority: should it kill again, it takes nothing with it.

    Args:
        version_id: key of the model version.
        limit: photos at most.
        worker: who claims them.
        saved: none but those that the shop has just saved.
    """
    make_ready()
    while (claims := _claim(version_id, limit, worker, saved)) is None:
        give_up_lost(version_id, limit)
    return claims


def _claim(version_id: int, limit: int, worker: str, saved: bool) -> list[Claim] | None:
    """See :func:`claim`; None where photos have to be given up first."""
    with database.short_atomic():
        entries = _claimable().select_for_update(skip_locked=True).filter(version=version_id).order_by("priority", "id")
        if saved:
            entries = entries.filter(priority__lte=OutboxEntry.Priority.SAVED)
        picked = list(entries[:limit])
        if _lost(picked):
            return None
        suspects = [entry for entry in picked if entry.attempts and not entry.last_error]
        if suspects:
            # Behind them, or the few others among the first would make small batches as long as there are any.
            others = list(entries.exclude(attempts__gt=0, last_error="")[:limit])
            is_urgent = others and suspects[0].priority < others[0].priority
            picked = suspects[:1] if is_urgent else others or suspects[:1]
        # Later entries of the same photos are served by the same work.
        image_ids = {entry.image_id for entry in picked}
        same = list(entries.filter(image_id__in=image_ids)) if picked else []
        # What can't be locked here is being claimed elsewhere this moment.
        elsewhere = OutboxEntry.objects.using(database.write_alias()).filter(
            Q(due_at__isnull=True) | Q(leased_until__isnull=False),
            version=version_id,
            image_id__in=image_ids,
            failed_at__isnull=True,
        )
        taken = set(elsewhere.exclude(pk__in=[entry.pk for entry in same]).values_list("image_id", flat=True))
        same = [entry for entry in same if entry.image_id not in taken]
        if not same:
            return []
        leased_until = timezone.now() + timedelta(seconds=get_settings().lease_seconds)
        OutboxEntry.objects.filter(pk__in=[entry.pk for entry in same]).update(
            attempts=F("attempts") + 1, leased_until=leased_until, claimed_by=worker[:255]
        )
    claims: dict[Any, list[OutboxEntry]] = {}
    for entry in same:
        claims.setdefault(entry.image_id, []).append(entry)
    return [
        Claim(
            image_id,
            tuple(entry.pk for entry in mine),
            max(entry.attempts for entry in mine) + 1,
            any(entry.priority == OutboxEntry.Priority.SAVED for entry in mine),
            leased_until,
            worker[:255],
        )
        for image_id, mine in claims.items()
    ]


def count_death(entries: QuerySet[OutboxEntry]) -> int:
    """Let go of what a worker had claimed that is dead; returns how many entries. The try stays counted."""
    return entries.update(
        attempts=Case(When(last_error="", then=F("attempts")), default=Value(1)),
        last_error="",
        leased_until=None,
        claimed_by="",
    )


def done(version_id: int, claims: Sequence[Claim]) -> list[Claim]:
    """Remove what is served, and older failures of the same photos.

    Returns:
        The claims that were lost meanwhile: after the lease somebody else took the photo, or the shop removed it. What
        was written for them must be rolled back.
    """
    with database.cursor() as cursor:
        cursor.execute(
            f"""DELETE FROM {_OUTBOX} o
            USING unnest(%s::bigint[], %s::timestamptz[], %s::text[]) AS claimed (id, leased_until, worker)
            WHERE o.id = claimed.id AND (
                claimed.leased_until IS NULL
                OR (o.leased_until = claimed.leased_until AND o.claimed_by = claimed.worker)
            ) RETURNING o.id""",
            [
                [pk for claim_ in claims for pk in claim_.entry_ids],
                [claim_.leased_until for claim_ in claims for _pk in claim_.entry_ids],
                [claim_.worker for claim_ in claims for _pk in claim_.entry_ids],
            ],
        )
        ours = {pk for (pk,) in cursor.fetchall()}
    images = [claim_.image_id for claim_ in claims if ours.issuperset(claim_.entry_ids)]
    database.raw_delete(OutboxEntry.objects.filter(version=version_id, image_id__in=images, failed_at__isnull=False))
    return [claim_ for claim_ in claims if not ours.issuperset(claim_.entry_ids)]


def release(claims: Sequence[Claim], *, delay: float = 0, count_attempt: bool = False) -> None:
    """Give photos back unembedded, to be claimed again after ``delay`` seconds."""
    values: dict[str, Any] = {"leased_until": None, "claimed_by": "", "due_at": None}
    if delay:
        values["due_at"] = timezone.now() + timedelta(seconds=delay)
    if not count_attempt:
        values["attempts"] = Greatest(F("attempts") - 1, 0)
    _ours(claims).update(**values)


def release_all(worker: str) -> int:
    """Give back all that a worker holds, which ends now; returns how many entries."""
    held = OutboxEntry.objects.using(database.write_alias()).filter(
        leased_until__isnull=False, failed_at__isnull=True, claimed_by=worker[:255]
    )
    return held.update(leased_until=None, claimed_by="", due_at=None, attempts=Greatest(F("attempts") - 1, 0))


def retry_later(claim_: Claim, error: str, *, file_name: str = "") -> bool:
    """Note a passing fault. Returns False when the tries are used up and the photo is failed instead.

    Args:
        claim_: the photo.
        error: the sentence that its entry keeps.
        file_name: of a file that could not be read: the sweep of the files queues it once more when the storage answers
            again.
    """
    settings = get_settings()
    if claim_.attempts >= settings.max_attempts:
        fail(
            claim_,
            _("Given up after %(count)d tries: %(error)s") % {"count": claim_.attempts, "error": error},
            file_name=file_name,
            keep_embedding=True,
        )
        return False
    # 5 s, 30 s, 3 min, 18 min, then an hour each: a storage that is away for a while must not cost the photos.
    delay = min(5 * 6 ** (claim_.attempts - 1), 3_600)
    _ours([claim_]).update(
        leased_until=None, claimed_by="", last_error=_kept(error), due_at=timezone.now() + timedelta(seconds=delay)
    )
    return True


def _kept(error: str) -> str:
    """A sentence as it is kept. It must never be why a photo can't be settled, whoever wrote it."""
    return database.storable(error)[:_LONGEST_ERROR]


def fail(claim_: Claim, error: str, *, file_name: str = "", file_mark: str = "", keep_embedding: bool = False) -> None:
    """Give a photo up: the sentence stays with its entry until the photo changes or somebody asks for a retry.

    Its embedding goes, because the photo is not what it shows any more, unless ``keep_embedding`` says that nothing is
    known about the photo.
    """
    with database.short_atomic():
        # Embedding before entry, as the shop removes them: in the other order the two could wait for each other.
        version = _ours([claim_]).values("version")[:1]
        images = Embedding.objects.filter(version=Subquery(version), image_id=claim_.image_id)
        if not keep_embedding:
            list(images.select_for_update().values("pk"))
        entries = list(_ours([claim_]).select_for_update().order_by("-pk"))
        if len(entries) < len(claim_.entry_ids) or not entries:
            return
        keep, *rest = entries
        same = {"version": keep.version_id, "image_id": claim_.image_id}
        if not keep_embedding:
            database.raw_delete(Embedding.objects.filter(**same))
        database.raw_delete(OutboxEntry.objects.filter(pk__in=[entry.pk for entry in rest]))
        database.raw_delete(OutboxEntry.objects.filter(**same, failed_at__isnull=False))
        OutboxEntry.objects.filter(pk=keep.pk).update(
            leased_until=None,
            claimed_by="",
            last_error=_kept(error),
            failed_at=timezone.now(),
            file_name=file_name,
            file_mark=database.storable(file_mark),
        )


def _lost(entries: Iterable[OutboxEntry]) -> list[OutboxEntry]:
    """Those whose every try ended with the death of its worker."""
    most = get_settings().max_attempts
    return [entry for entry in entries if entry.attempts >= most and not entry.last_error]


def give_up_lost(version_id: int, limit: int = _PORTION) -> int:
    """Fail photos whose every try ended with the death of its worker, among the next ``limit``; returns how many."""
    make_ready()
    # Nobody claims them meanwhile.
    lost = _lost(
        _claimable().using(database.write_alias()).filter(version=version_id).order_by("priority", "id")[:limit]
    )
    for entry in lost:
        fail(
            Claim(entry.image_id, (entry.pk,), entry.attempts),
            _(
                "The worker died %(count)d times while it embedded this photo. Look at the worker's log and "
                "memory, then retry."
            )
            % {"count": entry.attempts},
        )
    return len(lost)


def retry_failed(entries: QuerySet[OutboxEntry]) -> int:
    """Queue those of the entries that failed once more; they wait from now on. Returns how many photos."""
    return entries.filter(failed_at__isnull=False).update(
        created_at=timezone.now(), failed_at=None, attempts=0, last_error="", due_at=None, file_name="", file_mark=""
    )


def counts(version_ids: Collection[int]) -> dict[int, dict[str, Number]]:
    """Photos ``pending`` and ``failed``, for each of these versions; beyond :data:`~.magnitudes.COUNTED` about so many.

    One statement, and two for each version beyond that.
    """
    with database.cursor(OutboxEntry.objects.all().db) as cursor:
        cursor.execute(
            f"""SELECT v.id, counted.* FROM unnest(%s::bigint[]) v (id) CROSS JOIN LATERAL (
                SELECT count(*), count(DISTINCT image_id) FILTER (WHERE failed_at IS NULL),
                    count(DISTINCT image_id) FILTER (WHERE failed_at IS NOT NULL)
                FROM (SELECT o.image_id, o.failed_at FROM {_OUTBOX} o WHERE o.version_id = v.id
                      ORDER BY o.image_id LIMIT %s) few
            ) counted""",
            [list(version_ids), COUNTED + 1],
        )
        found = {pk: numbers for pk, *numbers in cursor.fetchall()}
    return {pk: _magnitudes(pk, *found[pk]) for pk in version_ids}


def _magnitudes(version_id: int, entries: int, pending: int, failed: int) -> dict[str, Number]:
    if entries <= COUNTED:
        return {"pending": Number(pending), "failed": Number(failed)}
    rows = OutboxEntry.objects.filter(version=version_id)
    return {
        "pending": count(rows.filter(failed_at__isnull=True)),
        "failed": count(rows.filter(failed_at__isnull=False)),
    }


def last_failed(version_ids: Collection[int], limit: int) -> list[Any]:
    """Keys of the photos that failed last for these versions, the newest first, each once. One statement.

    A photo has one failure for a version, so the last of all are among the last of each, which an index has in order.
    """
    with database.cursor(OutboxEntry.objects.all().db) as cursor:
        cursor.execute(
            f"""SELECT image_id FROM unnest(%s::bigint[]) v (id) CROSS JOIN LATERAL (
                SELECT o.image_id, o.failed_at FROM {_OUTBOX} o
                WHERE o.version_id = v.id AND o.failed_at IS NOT NULL ORDER BY o.failed_at DESC LIMIT %s
            ) last GROUP BY image_id ORDER BY max(failed_at) DESC, image_id LIMIT %s""",
            [list(version_ids), limit, limit],
        )
        to_python = OutboxEntry._meta.get_field("image_id").to_python
        return [to_python(image_id) for (image_id,) in cursor.fetchall()]


@dataclass(frozen=True)
class Waiting:
    """What waits for workers, of all live versions.

    Attributes:
        oldest: since when the oldest waits.
        tries: of the most tried one.
        claimed: how many workers hold right now.
    """

    oldest: datetime | None
    tries: int
    claimed: int


# So many entries that are ready, and as many that are to be tried later, are looked at for what all of them are like.
_SAMPLE = 10_000


def waiting() -> Waiting:
    """What the entries that wait are like: of very many those that are served first are looked at."""
    entries = OutboxEntry.objects.filter(version__state__in=_LIVE, failed_at__isnull=True).order_by()
    parts = (
        entries.filter(due_at__isnull=True, leased_until__isnull=True)[:_SAMPLE],
        entries.filter(due_at__isnull=False, leased_until__isnull=True).order_by("due_at")[:_SAMPLE],
        entries.filter(leased_until__isnull=False),
    )
    found = [part.values("created_at", "attempts", "leased_until") for part in parts]
    now = timezone.now()
    sums = [
        rows.aggregate(
            oldest=Min("created_at"),
            tries=Max("attempts"),
            claimed=Count("leased_until", filter=Q(leased_until__gte=now)),
        )
        for rows in found
    ]
    return Waiting(
        min((row["oldest"] for row in sums if row["oldest"]), default=None),
        max(row["tries"] or 0 for row in sums),
        sum(row["claimed"] for row in sums),
    )
