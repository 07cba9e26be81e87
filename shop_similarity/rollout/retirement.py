"""What is left of retired versions: their embeddings, entries and index go in small portions, whoever is at work."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import database
from ..embedding.engines import copies
from ..embedding.index import drop_index, index_state, indexed_versions
from ..models import Embedding, ModelVersion, OutboxEntry

_PORTION = 1_000
# A worker rests for so many times as long as a portion took.
_REST = 4


@database.on_primary()
def is_due() -> bool:
    """Whether anything is left of a retired version."""
    return bool(_left_behind())


@database.on_primary()
def clear_retired(*, stopped: Callable[[], bool] = lambda: False, rest: Callable[[float], object] | None = None) -> int:
    """Remove embeddings, outbox entries and indexes of all retired versions. Returns how many embeddings.

    Indexes of versions whose row is gone are dropped too. Several processes take turns, portion by portion.

    Args:
        stopped: asked after every portion, ends the work.
        rest: called with the seconds to rest after every portion; by default nobody rests.
    """
    return sum(_clear(pk, stopped, rest) for pk in _left_behind())


def _left_behind() -> list[int]:
    """Keys of the retired versions of which rows or an index are left."""
    states = dict(ModelVersion.objects.values_list("pk", "state"))
    indexed = set(indexed_versions())
    return [
        pk
        for pk in {*states, *indexed}
        if states.get(pk, ModelVersion.State.RETIRED) == ModelVersion.State.RETIRED and (pk in indexed or _has_rows(pk))
    ]


def clear(version: ModelVersion) -> int:
    """Remove all that is left of one retired version now. Returns how many embeddings."""
    return _clear(version.pk, lambda: False, None)


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


def _clear(version_id: int, stopped: Callable[[], bool], rest: Callable[[float], object] | None) -> int:
    # Without the index the rows go faster, and no vacuum has to mend it. Inside a transaction it can't be dropped
    # without holding up every page; a worker does it later.
    if not database.in_transaction() and index_state(version_id).state != "absent":
        drop_index(version_id)
    # Before the rows, or the engine would be told of each of them.
    copies.give_up(version_id)
    removed = 0
    for model in (OutboxEntry, Embedding):
        # From key to key: what was removed lies at the beginning until a vacuum has been, and is not walked over anew.
        last = None
        while not stopped():
            began = time.monotonic()
            count, last = _delete_portion(model, version_id, last)
            if model is Embedding:
                removed += count
            if last is None:
                break
            if rest is not None:
                rest(_REST * (time.monotonic() - began))
    return removed


def _delete_portion(model: type[Embedding | OutboxEntry], version_id: int, after: Any) -> tuple[int, Any]:
    """Delete some rows, provided that the version is still retired; how many, up to which photo, None at the end."""
    rows = model.objects.using(database.write_alias()).filter(
        version=version_id, version__state=ModelVersion.State.RETIRED
    )
    if after is not None:
        rows = rows.filter(image_id__gt=after)
    with database.short_atomic():
        # Two that delete the same rows would each find fewer of them than there are left.
        database.lock("retirement")
        keys = list(rows.order_by("image_id").values_list("image_id", flat=True)[:_PORTION])
        count = database.raw_delete(model.objects.filter(version=version_id, image_id__in=keys)) if keys else 0
    return count, keys[-1] if len(keys) == _PORTION else None
