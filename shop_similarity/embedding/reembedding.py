"""Having the photos of products embedded anew, although nothing about them seems to have changed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import Q

from .. import database
from ..catalogue import get_catalogue
from ..models import Embedding, ModelVersion, OutboxEntry
from . import bell, outbox


def reembed(product_ids: Collection[Any]) -> int:
    """Queue all photos of these products for every live version. Returns how many photos.

    Their look-alikes stay as they are until a worker has read the files again. Photos that failed get all their tries
    back. Without a live version there is nothing to embed with, and nothing is queued.

    Args:
        product_ids: keys of products.
    """
    catalogue = get_catalogue()
    using = database.write_alias()
    with database.atomic():
        rows = list(catalogue.rows(catalogue.images_of(product_ids)))
        versions = list(ModelVersion.objects.using(using).live().values_list("pk", flat=True))
        if not rows or not versions:
            return 0
        image_ids = [row.image_id for row in rows]
        # What a worker knows of the file would tell it that there is nothing to do.
        Embedding.objects.using(using).filter(version__in=versions, image_id__in=image_ids).update(
            content_sha256="", file_mark=""
        )
        entries = OutboxEntry.objects.using(using).filter(version__in=versions, image_id__in=image_ids)
        outbox.retry_failed(entries)
        # An entry that a worker has claimed may be about the file as it was.
        waiting = set(entries.filter(leased_until__isnull=True).values_list("version_id", "image_id"))
        entries.filter(leased_until__isnull=True).exclude(Q(priority=OutboxEntry.Priority.SAVED)).update(
            priority=OutboxEntry.Priority.SAVED
        )
        for version in versions:
            outbox.enqueue(version, [row for row in rows if (version, row.image_id) not in waiting], using=using)
        database.on_commit(bell.ring)
    return len(rows)
