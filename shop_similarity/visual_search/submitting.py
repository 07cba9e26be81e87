"""Handing a photo to the workers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db import connections, transaction
from django.db.models import Count, Min
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..conf import get_settings
from ..models import ModelVersion, VisualQuery
from ..photos.decoding import Source
from ..search import searched_version
from .errors import Busy
from .preparing import prepare_photo
from .purging import purge
from .queue import CHANNEL, database, waiting

# Any number will do that no other part of the shop takes an advisory lock with: "visual" as bytes.
_QUEUE_LOCK = int.from_bytes(b"visual")


def submit(file: Source, *, crop: Sequence[float] | None = None, version: ModelVersion | None = None) -> VisualQuery:
    """Check a photo, make it small and queue it for a worker; committed when this returns.

    Args:
        file: what the shopper sent, see :func:`prepare_photo`.
        crop: left, top, right and bottom edge of the region to search with, parts of 1 of the upright photo.
        version: model version to search with; the active one by default.

    Raises:
        ImageError: the photo, or the region of it, can't be used; the sentence says what to do.
        Busy: no version is active, the queue is full, or no worker has answered for a while.
        RuntimeError: called inside a transaction, which would hide the photo from the workers until it ends.
    """
    photo = prepare_photo(file, crop)
    version = version or searched_version()
    if version is None:
        raise Busy(_("Search by photo is not ready yet; please try again later."), retry_after=60)
    using = database()
    with transaction.atomic(using=using, durable=True):
        with connections[using].cursor() as cursor:
            # One after another, or two that come at once would both take the last place.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_QUEUE_LOCK])
        purge()
        _check_queue()
        query = VisualQuery(version=version, photo=photo)
        query.save(using=using, force_insert=True)
        with connections[using].cursor() as cursor:
            # Heard when this commits. A message through the broker would be heard no sooner, and not without broker.
            cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
    # The row has the photo from here on; the caller may live longer.
    query.photo = None
    return query


def _check_queue() -> None:
    settings = get_settings()
    queue = waiting().aggregate(length=Count("pk"), oldest=Min("created_at"))
    if queue["length"] >= settings.visual_search_queue:
        raise Busy(_("Many shoppers search by photo right now; please try again in a few seconds."), retry_after=5)
    # Nobody answers: to let each shopper find that out anew would bind a web process for so long each time.
    patience = timedelta(seconds=2 * max(settings.visual_search_wait_seconds, 5))
    if queue["oldest"] is not None and queue["oldest"] < timezone.now() - patience:
        raise Busy(_("Search by photo does not answer at the moment; please try again in a minute."), retry_after=60)
