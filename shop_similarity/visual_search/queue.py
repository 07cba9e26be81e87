"""The rows of visual queries, where they are: the primary database, since a replica has no unlogged tables."""

from __future__ import annotations

from django.db import models, router

from ..models import VisualQuery

CHANNEL = "shop_similarity_visual_query"
"""PostgreSQL notification channel on which workers hear of a new photo."""

PHOTO_SECONDS = 60
"""No photo is kept longer than this, embedded or not."""


def database() -> str:
    """Alias of the database that holds the queries."""
    return router.db_for_write(VisualQuery)


def queries() -> models.QuerySet[VisualQuery]:
    """All visual queries, without photo and vector."""
    return VisualQuery.objects.using(database())


def waiting() -> models.QuerySet[VisualQuery]:
    """Queries whose photo waits to be embedded."""
    return queries().filter(answered_at__isnull=True)
