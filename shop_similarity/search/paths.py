"""Which embeddings a search may find, and the way it goes about it: exactly, over the codes, or by the index."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet

from .. import database
from ..conf import get_settings
from ..models import Embedding, ModelVersion
from .sql import Sql


class Path(Enum):
    """How candidates are found."""

    EXACT = "exact"
    CODES = "codes"
    INDEX = "index"


def prepared_keys(keys: Collection[Any]) -> list[Any]:
    """Keys of products as the driver takes them."""
    field = Embedding._meta.get_field("product_id")
    connection = database.connection(database.read_alias())
    return [field.get_db_prep_value(key, connection) for key in keys]


def keys_sql(products: QuerySet) -> Sql | None:
    """The keys of a queryset of products; None where it can hold none."""
    keys = products.values("pk") if products.query.is_sliced else products.order_by().values("pk")
    try:
        return Sql.of_queryset(keys)
    except EmptyResultSet:
        return None


def embeddings_among(
    version: ModelVersion, among: QuerySet | None, exclude: Collection[Any] = (), hidden: QuerySet | None = None
) -> Sql | None:
    """The condition that embeddings of a version have to meet to be found, on the alias ``e``.

    Args:
        version: the model version.
        among: queryset of the products that may be found; None for all.
        exclude: keys of products that may not.
        hidden: queryset of products that may not either.

    Returns:
        The condition, None where nothing can meet it.
    """
    # The version is written out, for only a literal lets the planner see that the version's own index fits.
    conditions = [Sql(f"e.version_id = {int(version.pk)}")]
    if among is not None:
        keys = keys_sql(among)
        if keys is None:
            return None
        conditions.append(Sql.of("e.product_id IN ({keys})", keys=keys))
    if exclude:
        conditions.append(Sql.of("e.product_id <> ALL({keys})", keys=prepared_keys(exclude)))
    if hidden is not None and (keys := keys_sql(hidden)) is not None:
        conditions.append(Sql.of("NOT e.product_id IN ({keys})", keys=keys))
    return Sql.join(" AND ", conditions)


_PATH_SECONDS = 60
_paths: dict[tuple, tuple[float, Path]] = {}


def forget_paths() -> None:
    """Count the photos again at the next search."""
    _paths.clear()


def choose_path(condition: Sql) -> Path:
    """The way to search, by the number of photos that the condition admits.

    The choice is kept for a minute: one made on an old number is slower, never wrong.
    """
    settings = get_settings()
    key = (repr(condition), settings)
    kept = _paths.get(key)
    if kept is not None and kept[0] > time.monotonic():
        return kept[1]
    # Counting stops at the first number that decides, so it costs no more in a shop of millions.
    most = max(settings.exact_rows, settings.index_rows) + 1
    counting = Sql.of(
        "SELECT count(*) FROM (SELECT 1 FROM {table} e WHERE {condition} LIMIT {most}) counted",
        table=Sql(Embedding._meta.db_table),
        condition=condition,
        most=Sql.number(most),
    )
    rows = counting.rows()[0].count
    path = Path.EXACT if rows <= settings.exact_rows else Path.CODES if rows <= settings.index_rows else Path.INDEX
    if len(_paths) >= 1_000:
        _paths.clear()
    _paths[key] = (time.monotonic() + _PATH_SECONDS, path)
    return path


@contextmanager
def scan_settings(path: Path, candidates: int) -> Iterator[None]:
    """Settings of the index scan for one statement, gone with its transaction."""
    if path is not Path.INDEX:
        yield
        return
    using = database.read_alias()
    with database.atomic(using), database.cursor(using) as cursor:
        cursor.execute(
            "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'relaxed_order', true)",
            [str(min(candidates, 1_000))],
        )
        yield
