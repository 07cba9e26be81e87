"""What is left of retired versions: their embeddings, entries and index go in small portions, whoever is at work."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from .. import database
from ..embedding.index import drop_index, index_state, indexed_versions
from ..models import Embedding, ModelVersion, OutboxEntry

_PORTION = 1_000


@database.on_primary()
def clear_retired(*, seconds: float | None = None, stopped: Callable[[], bool] = lambda: False) -> int:
    """Remove embeddings, outbox entries and indexes of all retired versions. Returns how many embeddings.

    Indexes of versions whose row is gone are dropped too. Several processes take turns, portion by portion.

    Args:
        seconds: go no further after this time; what is left is for the next call.
        stopped: asked after every portion, ends the work.
    """
    states = dict(ModelVersion.objects.values_list("pk", "state"))
    indexed = set(indexed_versions())
    retired = [
        pk
        for pk in {*states, *indexed}
        if states.get(pk, ModelVersion.State.RETIRED) == ModelVersion.State.RETIRED and (pk in indexed or _has_rows(pk))
    ]
    ends = None if seconds is None else time.monotonic() + seconds
    return sum(_clear(pk, lambda: stopped() or (ends is not None and time.monotonic() > ends)) for pk in retired)


def clear(version: ModelVersion) -> int:
    """Remove all that is left of one retired version now. Returns how many embeddings."""
    return _clear(version.pk, lambda: False)


def delete_row(version: ModelVersion) -> None:
    """Delete the row of a version of which nothing is left, and its files with it."""
    names, storage = version.files, version.weights.storage
    alias = database.write_alias()
    with database.atomic():
        version.delete(using=alias)
        for name in names:
            if not ModelVersion.objects.using(alias).filter(weights=name).exists():
                database.on_commit(partial(storage.delete, name))


def _has_rows(version_id: int) -> bool:
    return any(model.objects.filter(version=version_id).exists() for model in (Embedding, OutboxEntry))


def _clear(version_id: int, stopped: Callable[[], bool]) -> int:
    # Without the index the rows go faster, and no vacuum has to mend it. Inside a transaction it can't be dropped
    # without holding up every page; a worker does it later.
    if not database.in_transaction() and index_state(version_id).state != "absent":
        drop_index(version_id)
    removed = 0
    for model in (OutboxEntry, Embedding):
        while not stopped():
            count = _delete_portion(model, version_id)
            if model is Embedding:
                removed += count
            if count < _PORTION:
                break
    return removed


def _delete_portion(model: type, version_id: int) -> int:
    """Delete some rows, provided that the version is still retired."""
    rows = model.objects.using(database.write_alias())
    portion = rows.filter(version=version_id, version__state=ModelVersion.State.RETIRED)
    with database.short_atomic():
        # Two that delete the same rows would each find fewer of them than there are left.
        database.lock("retirement")
        return database.raw_delete(rows.filter(pk__in=portion.order_by().values("pk")[:_PORTION]))
