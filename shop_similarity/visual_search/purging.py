"""Seeing to it that nothing is kept: old photos are removed, then old answers."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from ..conf import get_settings
from ..models import VisualQuery
from .queue import PHOTO_SECONDS, database, queries, waiting


def purge() -> int:
    """Remove photos older than a minute and queries older than ``VISUAL_SEARCH_KEEP_SECONDS``; returns how many rows.

    Called by every worker, idle or not, and by the next search: where no worker runs, that search tidies up.
    """
    now = timezone.now()
    keep = timedelta(seconds=get_settings().visual_search_keep_seconds)
    with transaction.atomic(using=database()):
        # Several purge at once: waiting for each other's rows they could lock each other out.
        late = waiting().filter(created_at__lt=now - timedelta(seconds=PHOTO_SECONDS))
        late = list(late.select_for_update(skip_locked=True).values_list("pk", flat=True))
        if late:
            queries().filter(pk__in=late).update(photo=None, error=VisualQuery.Error.TOO_LATE, answered_at=now)
        old = queries().filter(created_at__lt=now - keep)
        removed = queries().filter(pk__in=old.select_for_update(skip_locked=True).values("pk"))._raw_delete(database())
    return len(late) + removed
