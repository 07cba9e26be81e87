"""What is left of retired versions: their embeddings, entries and index go in small portions, whoever is at work."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.db import connection, router, transaction

from .code_index import drop_index, index_state
from .models import Embedding, ModelVersion, OutboxEntry

_PORTION = 1_000
# Any number that no other user of advisory locks is likely to take.
_LOCK = 0x5105_0C1E


def clear_retired(*, seconds: float | None = None, stopped: Callable[[], bool] = lambda: False) -> int:
    """Remove embeddings, outbox entries and indexes of all retired versions. Returns how many embeddings.

    One process at a time does it; in another one this returns 0 at once.

    Args:
        seconds: go no further after this time; what is left is for the next call.
        stopped: asked after every portion, ends the work.
    """
    retired = [
        version for version in ModelVersion.objects.filter(state=ModelVersion.State.RETIRED) if _has_rest(version)
    ]
    if not retired:
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
    ends = None if seconds is None else time.monotonic() + seconds
    removed = 0
    try:
        for version in retired:
            removed += _clear(version, lambda: stopped() or (ends is not None and time.monotonic() > ends))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
    return removed


def clear(version: ModelVersion) -> int:
    """Remove all that is left of one retired version now. Returns how many embeddings."""
    return _clear(version, lambda: False)


def delete_row(version: ModelVersion) -> None:
    """Delete the row of a version of which nothing is left, and its weights file with it."""
    name, storage = version.weights.name, version.weights.storage
    using = router.db_for_write(ModelVersion)
    with transaction.atomic(using=using):
        version.delete()
        if name and not ModelVersion.objects.using(using).filter(weights=name).exists():
            transaction.on_commit(lambda: storage.delete(name), using=using)


def _has_rest(version: ModelVersion) -> bool:
    return (
        Embedding.objects.filter(version=version.pk).exists()
        or OutboxEntry.objects.filter(version=version.pk).exists()
        or index_state(version.pk).state != "absent"
    )


def _clear(version: ModelVersion, stopped: Callable[[], bool]) -> int:
    # Without the index the rows go faster, and no vacuum has to mend it.
    if index_state(version.pk).state != "absent":
        drop_index(version.pk)
    removed = 0
    for model in (OutboxEntry, Embedding):
        while not stopped():
            count = _delete_portion(model, version)
            if model is Embedding:
                removed += count
            if count < _PORTION:
                break
    return removed


def _delete_portion(model: type, version: ModelVersion) -> int:
    """Delete some rows, provided that the version is still retired."""
    portion = model.objects.filter(version=version.pk, version__state=ModelVersion.State.RETIRED)
    return model.objects.filter(pk__in=portion.order_by().values("pk")[:_PORTION])._raw_delete(
        router.db_for_write(model)
    )
