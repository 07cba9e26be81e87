"""The queue of shoppers' photos: one is submitted, claimed by a worker, answered with its vector, waited for, removed.

All of it happens in rows of the primary database, since a replica has no unlogged tables.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from django.db import models
from django.db.models import Count, Min, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import database
from ..conf import get_settings
from ..models import ModelVersion, VisualQuery
from ..photos.contents import Source
from ..photos.errors import DecoderUnavailable
from ..photos.limits import catalogue_limits
from ..search import searched_version
from .uploads import Crop, part_of, prepare_photo
from .votes import is_vote

logger = logging.getLogger(__name__)

PHOTO_SECONDS = 60
"""No photo waits longer than this, or stays, unless it is kept to choose among its objects."""

LEASE_SECONDS = 3
"""After so long another worker takes the photo of one that died: within the time that a shopper waits."""

MOST_KEPT = 200
"""Photos that are kept beside their answers at most; the oldest gives way."""

_CROWDED = _("Many shoppers search by photo right now; please try again in a few seconds.")
_CHANNEL = "shop_similarity_visual_query"
_LOOK_SECONDS = 0.05


class Busy(Exception):
    """No worker has answered, or too many photos wait already; ``str()`` is a translated sentence for the shopper.

    Attributes:
        retry_after: seconds after which it makes sense to try again, for the header of that name.
    """

    def __init__(self, message: Any, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Expired(Exception):
    """The query can't be searched with any more: its photo was never embedded, or its model version is out of use.

    ``str()`` is a translated sentence for the shopper.
    """


@dataclass(frozen=True)
class Claim:
    """A worker's right to answer a query.

    Attributes:
        key: of the query.
        photo: as PNG.
        claimed_at: when the right was given.
        is_vote: whether the photo counts in what all have in common.
        finds_objects: whether its objects are to be found, and the largest searched with.
        is_kept: whether the photo stays, if there is something to choose on it.
        is_snapshot: whether a shopper took it; else it is a product's own.
    """

    key: UUID
    photo: bytes
    claimed_at: datetime
    is_vote: bool = False
    finds_objects: bool = False
    is_kept: bool = False
    is_snapshot: bool = True


def queries() -> models.QuerySet[VisualQuery]:
    """All visual queries, without photo and vector."""
    return VisualQuery.objects.using(database.write_alias())


def _waiting() -> models.QuerySet[VisualQuery]:
    return queries().filter(answered_at__isnull=True)


def find_query(key: UUID) -> VisualQuery | None:
    """The query of a key with its version; None where it has expired, removed already or not, or never was."""
    return queries().select_related("version").filter(pk=key, created_at__gt=_expired_by()).first()


def _expired_by() -> datetime:
    return timezone.now() - timedelta(seconds=get_settings().visual_search_keep_seconds)


def submit(
    file: Source,
    *,
    crop: Sequence[float] | None = None,
    version: ModelVersion | None = None,
    request: Any = None,
    keep: bool = False,
    product: Any = None,
) -> VisualQuery:
    """Check a photo, make it small and queue it for a worker; committed when this returns.

    Args:
        file: what the shopper sent, see :func:`~shop_similarity.visual_search.uploads.prepare_photo`.
        crop: left, top, right and bottom edge of the region to search with, parts of 1 of the upright photo;
            :data:`~shop_similarity.visual_search.uploads.WHOLE` for all of it. By default the worker searches with the
            largest object, where it can find objects, else with all of it.
        version: model version to search with; the active one by default.
        request: the shopper's. With it the photo may count in what all shoppers' photos share; without it does not.
        keep: whether the photo stays for as long as the answer, so that another object on it can be chosen.
        product: key of the product whose own photo it is, which is not to be found; None for a shopper's. Where that
            very photo is kept already, it is not queued again.

    Returns:
        The query that waits; for a product's own photo that is kept, the answered one.

    Raises:
        ImageError: the photo, or the region of it, can't be used; the sentence says what to do.
        Busy: no version is active, the queue is full, or no worker has answered for a while.
        RuntimeError: called inside a transaction, which would hide the photo from the workers until it ends.
    """
    try:
        photo = prepare_photo(file, crop, None if product is None else catalogue_limits())
    except DecoderUnavailable as error:
        logger.warning("A shopper's photo was not decoded: %s", error)
        raise Busy(_CROWDED, retry_after=5) from error
    may_count = request is not None and product is None and is_vote(request)
    looks = crop is None and get_settings().visual_search_objects
    version = version or searched_version()
    if keep and looks and product is not None and (kept := _kept_for(product, version, photo)) is not None:
        return kept
    return _queue(
        VisualQuery(
            photo=photo,
            is_vote=may_count,
            regions=[] if looks else None,
            is_kept=keep and looks,
            product="" if product is None else str(product),
        ),
        version,
    )


def submit_part(query: VisualQuery, crop: Crop) -> VisualQuery:
    """Queue a part of a photo that is kept beside its answer; committed when this returns.

    Args:
        query: an answered one, whose version is asked again where it is still in use.
        crop: the part.

    Raises:
        Expired: the photo is not kept any more.
        Busy, RuntimeError: as :func:`submit`.
    """
    photo = kept_photo(query)
    if photo is None:
        raise Expired(VisualQuery.Error.GONE.label)
    version = query.version if query.version.state in ModelVersion.LIVE else None
    # Who has chosen has had a vote with the photo itself.
    return _queue(VisualQuery(photo=part_of(photo, crop), product=query.product), version or searched_version())


def _queue(query: VisualQuery, version: ModelVersion | None) -> VisualQuery:
    if version is None:
        raise Busy(_("Search by photo is not ready yet; please try again later."), retry_after=60)
    query.version = version
    using = database.write_alias()
    with database.atomic(using, durable=True):
        # One after another, or two that come at once would both take the last place.
        database.lock("visual queue", using)
        purge()
        _check_length()
        if query.is_kept:
            _make_room()
        query.save(using=using, force_insert=True)
        with database.cursor(using) as cursor:
            # Heard when this commits. A message through the broker would be heard no sooner, and not without broker.
            cursor.execute("SELECT pg_notify(%s, '')", [_CHANNEL])
    # The row has the photo from here on; the caller may live longer.
    query.photo = None
    return query


def _check_length() -> None:
    settings = get_settings()
    queue = _waiting().aggregate(length=Count("pk"), oldest=Min("created_at"))
    if queue["length"] >= settings.visual_search_queue:
        raise Busy(_CROWDED, retry_after=5)
    # Nobody answers: to let each shopper find that out anew would bind a web process for so long each time.
    patience = timedelta(seconds=2 * max(settings.visual_search_wait_seconds, 5))
    is_late = queue["oldest"] is not None and queue["oldest"] < timezone.now() - patience
    # After a photo that nobody took, one at a time finds out whether somebody answers again.
    if is_late or (queue["length"] and _last_error() == VisualQuery.Error.TOO_LATE):
        raise Busy(_("Search by photo does not answer at the moment; please try again in a minute."), retry_after=60)


def _make_room() -> None:
    """Forget the oldest photos that are kept, so that no more than :data:`MOST_KEPT` are."""
    kept = queries().filter(is_kept=True, answered_at__isnull=False, photo__isnull=False)
    oldest = list(kept.order_by("-created_at").values_list("pk", flat=True)[MOST_KEPT - 1 : 2 * MOST_KEPT])
    # The mark goes too: the index by it holds what is kept, and no search for the oldest reads what once was.
    queries().filter(pk__in=oldest).update(photo=None, is_kept=False)


def has_photo(query: VisualQuery) -> bool:
    """Whether the photo of a query is kept beside its answer."""
    return queries().filter(pk=query.pk, is_kept=True, photo__isnull=False).exists()


def kept_photo(query: VisualQuery) -> bytes | None:
    """The photo of a query that is kept beside its answer; None where it is not, or not any more."""
    photo = queries().filter(pk=query.pk, is_kept=True).values_list("photo", flat=True).first()
    return None if photo is None else bytes(photo)


def _kept_for(product: Any, version: ModelVersion | None, photo: bytes) -> VisualQuery | None:
    """A product's own photo that somebody looked at before, and that is kept for as long again; None without one.

    A photo that has taken its place since is another one.
    """
    half = timedelta(seconds=get_settings().visual_search_keep_seconds / 2)
    kept = queries().filter(is_kept=True, created_at__gt=timezone.now() - half)
    kept = kept.filter(product=str(product), version=version, vector__isnull=False)
    # Last, for it is the largest by far.
    return kept.filter(photo=photo).first()


def regions_of(query: VisualQuery) -> list[Crop]:
    """The objects that were found on the photo of an answered query, parts of 1; the first was searched with."""
    return [tuple(edge / 100 for edge in region) for region in query.regions or ()]


def _last_error() -> str:
    """Why the youngest photo that waits no longer has no answer; "" where it has one."""
    settled = queries().filter(answered_at__isnull=False).order_by("-created_at")
    return settled.values_list("error", flat=True).first() or ""


def listen() -> None:
    """Have this connection hear of photos. Each time anew costs nothing; the connection may be another than before.

    Behind a pooler others would hear it.
    """
    if database.is_pooled():
        return
    with database.cursor() as cursor:
        cursor.execute(f"LISTEN {_CHANNEL}")


def hear(seconds: float) -> None:
    """Return as soon as a photo is queued, or after ``seconds``."""
    for _notification in database.connection().connection.notifies(timeout=seconds, stop_after=1):
        return


def _claimable() -> models.QuerySet[VisualQuery]:
    """Photos that no worker has, or had for too long, the oldest first."""
    now = timezone.now()
    return (
        _waiting()
        .filter(Q(claimed_at__isnull=True) | Q(claimed_at__lt=now - timedelta(seconds=LEASE_SECONDS)))
        .filter(created_at__gt=now - timedelta(seconds=PHOTO_SECONDS))
        .order_by("created_at")
    )


def next_version(unusable: Collection[int] = ()) -> ModelVersion | None:
    """The model version that the oldest photo was queued for, leaving out versions by key; None without a photo."""
    oldest = _claimable().exclude(version__in=unusable).values_list("version", flat=True)[:1]
    return ModelVersion.objects.using(database.write_alias()).filter(pk__in=oldest).first()


def claim(version: ModelVersion) -> Claim | None:
    """Take the oldest photo that was queued for a version, for ``LEASE_SECONDS``, committed at once."""
    now = timezone.now()
    with database.atomic():
        oldest = _claimable().filter(version=version).select_for_update(skip_locked=True)
        columns = ("pk", "photo", "is_vote", "regions", "is_kept", "product")
        row = oldest.values_list(*columns, named=True).first()
        if row is None or row.photo is None:
            return None
        queries().filter(pk=row.pk).update(claimed_at=now)
    return Claim(
        row.pk, bytes(row.photo), now, row.is_vote, row.regions is not None, row.is_kept, is_snapshot=not row.product
    )


def answer(
    claim: Claim,
    version: ModelVersion,
    vector: np.ndarray | None,
    vote: np.ndarray | None = None,
    regions: Sequence[Sequence[int]] = (),
) -> None:
    """Put the vector into the photo's place; who has lost the claim meanwhile writes nothing.

    Args:
        claim: what :func:`claim` gave.
        version: that embedded the photo.
        vector: (4096,) to search with; None where the photo could not be embedded.
        vote: (4096,) to be counted in the mean of all photos; None where the photo does not count.
        regions: the objects, as the row has them.
    """
    stays = claim.is_kept and vector is not None and len(regions) > 0
    # One statement: the photo is gone as soon as its vector is there.
    queries().filter(pk=claim.key, claimed_at=claim.claimed_at, answered_at__isnull=True).update(
        **({} if stays else {"photo": None, "is_kept": False}),
        **({"regions": [list(region) for region in regions]} if claim.finds_objects else {}),
        vector=vector,
        vote=vote,
        version=version,
        error="" if vector is not None else VisualQuery.Error.FAILED,
        answered_at=timezone.now(),
    )


def wait(query: VisualQuery, seconds: float | None = None) -> VisualQuery:
    """Wait until a query is answered; looks at its row about twenty times a second.

    Args:
        query: what :func:`~shop_similarity.visual_search.submit` returned.
        seconds: how long; ``VISUAL_SEARCH_WAIT_SECONDS`` by default. 0 looks once.

    Returns:
        The same query, brought up to date, with its vector.

    Raises:
        Busy: not answered in that time. The query goes on waiting for up to a minute and may be waited for again.
        Expired: the photo was not embedded in time, could not be embedded, the query is gone, or its version is out of
            use.
    """
    deadline = time.monotonic() + (get_settings().visual_search_wait_seconds if seconds is None else seconds)
    columns = ("answered_at", "error", "version", "vector", "regions", "version__state")
    rows = queries().filter(pk=query.pk).values_list(*columns, named=True)
    while (row := rows.first()) is not None and row.answered_at is None:
        if time.monotonic() >= deadline:
            raise Busy(
                _("The search by photo takes longer than usual; please try again in a few seconds."), retry_after=10
            )
        time.sleep(_LOOK_SECONDS)
    if row is None:
        raise Expired(VisualQuery.Error.GONE.label)
    # A worker takes the version that is active by then, where the query's is out of use.
    query.answered_at, query.error, version, query.vector, query.regions, state = row
    if version != query.version_id:
        query.version = ModelVersion.objects.using(database.write_alias()).get(pk=version)
    if query.error:
        raise Expired(query.error_sentence)
    if query.vector is None or state not in ModelVersion.LIVE:
        raise Expired(VisualQuery.Error.GONE.label)
    return query


def purge() -> int:
    """Remove photos older than a minute and queries older than ``VISUAL_SEARCH_KEEP_SECONDS``; returns how many rows.

    Called by every worker, idle or not, and by the next search: where no worker runs, that search tidies up.
    """
    now = timezone.now()
    with database.atomic():
        # Several purge at once: waiting for each other's rows they could lock each other out.
        unanswered = _waiting().filter(created_at__lt=now - timedelta(seconds=PHOTO_SECONDS))
        late = list(unanswered.select_for_update(skip_locked=True).values_list("pk", flat=True))
        if late:
            queries().filter(pk__in=late).update(
                photo=None, is_kept=False, error=VisualQuery.Error.TOO_LATE, answered_at=now
            )
        old = queries().filter(created_at__lte=_expired_by())
        removed = database.raw_delete(queries().filter(pk__in=old.select_for_update(skip_locked=True).values("pk")))
    return len(late) + removed
