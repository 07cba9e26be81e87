"""Which embeddings a search may find, and the way it goes about it: exactly, over the codes, by the index or an engine.

The way is chosen by the number of photos that may be found. They are counted, up to the number from which on the index
is used. Behind a condition that was found to admit more, the planner's estimate is asked the next time, whatever its
parameters are then; only where that is small they are counted again, for a scan of more than was thought would be a
slow page, and counting costs less than the scan. Either is kept for a minute.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet

from .. import database
from ..conf import get_settings
from ..embedding.engines import is_beside
from ..embedding.index import index_name
from ..models import Embedding, ModelVersion
from .sql import Sql


class Path(Enum):
    """How candidates are found."""

    EXACT = "exact"
    CODES = "codes"
    INDEX = "index"
    ENGINE = "engine"


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
    version: ModelVersion,
    among: QuerySet | None,
    exclude: Collection[Any] = (),
    hidden: Collection[QuerySet] = (),
    *,
    is_listed: bool = False,
) -> Sql | None:
    """The condition that embeddings of a version have to meet to be found, on the alias ``e``.

    Args:
        version: the model version.
        among: queryset of the products that may be found; None for all.
        exclude: keys of products that may not.
        hidden: querysets of products that may not either.
        is_listed: whether the keys of ``among`` are made into a list first, by which one scan of the index over
            products finds all of their photos, instead of a search of it for each product; for a search that is going
            to look at each of them.

    Returns:
        The condition, None where nothing can meet it.
    """
    # The version is written out, for only a literal lets the planner see that the version's own index fits.
    conditions = [Sql(f"e.version_id = {int(version.pk)}")]
    if among is not None:
        keys = keys_sql(among)
        if keys is None:
            return None
        is_among = "e.product_id = ANY(ARRAY({keys}))" if is_listed else "e.product_id IN ({keys})"
        conditions.append(Sql.of(is_among, keys=keys))
    if exclude:
        conditions.append(Sql.of("e.product_id <> ALL({keys})", keys=prepared_keys(exclude)))
    for products in hidden:
        if (keys := keys_sql(products)) is not None:
            conditions.append(Sql.of("NOT e.product_id IN ({keys})", keys=keys))
    return Sql.join(" AND ", conditions)


_KEPT_SECONDS = 60
_MOST_KEPT = 1_000
_reaches: dict[tuple, tuple[float, Reach]] = {}
# Conditions that once admitted more than are counted, without their parameters.
_wide: set[str] = set()
_indexed: dict[int, tuple[float, int]] = {}
# What it costs that the index passes a photo by, in scans of a code; measured, see docs/searching.md.
_PASSED_BY = 7.5
# So many photos for each candidate the index may pass by before fewer candidates are asked for.
_CHEAPLY_PASSED = 10
# From so many photos on both costs are what they were measured as, and nobody waits for more to be scanned or counted.
_MANY = 100_000
_MOST_COUNTED = 50_000
# So many keys in a list cost what it costs to look one photo up among the products.
_LISTED = 4


@dataclass(frozen=True)
class Reach:
    """How many photos a search may find.

    Attributes:
        rows: their number; the planner's estimate where they are too many to be counted.
        indexed: photos in the version's index or its copy in an engine; 0 where they are so few that it is not used.
        is_listed: whether the products that may be found are so few that a list of their keys is worth its making.
    """

    rows: int
    indexed: int = 0
    is_listed: bool = False

    @property
    def path(self) -> Path:
        """The way to search so many."""
        if self.rows <= get_settings().exact_rows:
            return Path.EXACT
        if self.rows <= _most_scanned(self.indexed):
            return Path.CODES
        return Path.ENGINE if is_beside() else Path.INDEX

    def candidates(self, path: Path, least: int) -> int:
        """How many photos each vector names at first: ``CANDIDATES``, and ``least`` where that is more.

        Behind a filter the index passes n / r photos by for each of r among n that it finds. Where that becomes dear,
        fewer are asked for, down to half of both: they name the first ten nearly as often (docs/searching.md).
        """
        candidates = get_settings().candidates
        if path is Path.INDEX and self.indexed > _MANY:
            cheap = _CHEAPLY_PASSED * candidates * self.rows // self.indexed
            if cheap < candidates:
                return max(cheap, _fewest(candidates), least // 2)
        return max(candidates, least)


def _fewest(candidates: int) -> int:
    return max(candidates // 2, 10)


def _most_scanned(indexed: int) -> int:
    """Up to so many photos a scan of their codes costs less than the index, which passes by all others meanwhile.

    Of r photos among n the index passes c n / r by until it has found c of them.
    """
    settings = get_settings()
    cheaper = math.isqrt(int(_PASSED_BY * _fewest(settings.candidates) * indexed)) if indexed > _MANY else 0
    return max(settings.index_rows, min(cheaper, _MOST_COUNTED))


def forget_paths() -> None:
    """Count the photos again at the next search."""
    _reaches.clear()
    _wide.clear()
    _indexed.clear()


def choose_path(version: ModelVersion, condition: Sql, among: QuerySet | None = None) -> Reach:
    """The path of a search, by how many photos of a version the condition admits, which is made of ``among``.

    It is kept for a minute: a path chosen by an old number is slower, never wrong.
    """
    settings = get_settings()
    key = (condition.text, _lasting(condition.parameters), settings)
    kept = _reaches.get(key)
    if kept is not None and kept[0] > time.monotonic():
        return kept[1]
    most = max(settings.exact_rows, settings.index_rows)
    rows = _estimate(condition) if condition.text in _wide else 0
    if rows <= most:
        rows = _count(condition, most)
    if rows <= most:
        reach = Reach(rows)
    else:
        if len(_wide) >= _MOST_KEPT:
            _wide.clear()
        _wide.add(condition.text)
        indexed = _in_copy(version) if is_beside() else _in_index(version)
        rows = max(rows, _estimate(condition))
        if most < rows <= (scanned := _most_scanned(indexed)):
            rows = _count(condition, scanned)
        reach = Reach(rows, indexed)
    if among is not None and reach.path is Path.CODES and (keys := keys_sql(among)) is not None:
        # Where a few of very many products have photos, each photo is looked up among the products instead.
        reach = replace(reach, is_listed=_planned_rows(keys) <= _LISTED * max(rows, 1))
    if len(_reaches) >= _MOST_KEPT:
        _reaches.clear()
    _reaches[key] = (time.monotonic() + _KEPT_SECONDS, reach)
    return reach


def _count(condition: Sql, most: int) -> int:
    """How many photos meet a condition; one more than ``most`` where they are more."""
    counting = Sql.of(
        "SELECT count(*) FROM (SELECT 1 FROM {table} e WHERE {condition} LIMIT {most}) counted",
        table=Sql(Embedding._meta.db_table),
        condition=condition,
        most=Sql.number(most + 1),
    )
    return counting.rows()[0].count


def _in_index(version: ModelVersion) -> int:
    """About how many photos there are in the version's index, as Postgres knows without counting; 0 without one."""
    kept = _indexed.get(version.pk)
    if kept is None or kept[0] <= time.monotonic():
        asking = Sql.of(
            "SELECT greatest(max(reltuples), 0)::bigint AS rows FROM pg_class WHERE oid = to_regclass({name})",
            name=index_name(version.pk),
        )
        kept = (time.monotonic() + _KEPT_SECONDS, asking.rows()[0].rows or 0)
        _indexed[version.pk] = kept
    return kept[1]


def _in_copy(version: ModelVersion) -> int:
    """About how many photos the engine beside Postgres names among: all of the version's, as the planner knows."""
    kept = _indexed.get(version.pk)
    if kept is None or kept[0] <= time.monotonic():
        kept = (time.monotonic() + _KEPT_SECONDS, _estimate(Sql(f"e.version_id = {int(version.pk)}")))
        _indexed[version.pk] = kept
    return kept[1]


def _lasting(value: Any) -> Any:
    """Parameters without what changes with every page: shops show what was published until now."""
    if isinstance(value, datetime):
        return value.replace(minute=0, second=0, microsecond=0).isoformat()
    if isinstance(value, list | tuple):
        return tuple(map(_lasting, value))
    return repr(value)


def _estimate(condition: Sql) -> int:
    """How many photos the planner expects to meet a condition."""
    table = Sql(Embedding._meta.db_table)
    return _planned_rows(Sql.of("SELECT 1 FROM {table} e WHERE {condition}", table=table, condition=condition))


def _planned_rows(statement: Sql) -> int:
    """How many rows the planner expects of a statement."""
    explaining = Sql.of("EXPLAIN (FORMAT JSON) {statement}", statement=statement)
    (plan,) = explaining.rows()[0]
    return int((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]["Plan Rows"])


# Photos of the product itself and of hidden ones, which no list has.
_LEFT_OUT = 24
# pgvector's own limit of hnsw.ef_search.
_MOST_SEARCHED = 1_000
_GROWTH = 0.25


def searched_among(candidates: int, indexed: int) -> int:
    """How many photos the index is to look around among (``hnsw.ef_search``) to name so many of those in it.

    A larger graph needs a wider look for the same recall.
    """
    # Room for what is left out: one photo too few would begin a second scan, as long as the first.
    room = candidates + max(candidates // 10, _LEFT_OUT)
    return min(round(room * max(indexed / _MANY, 1) ** _GROWTH), _MOST_SEARCHED)


def scan_settings(candidates: int, indexed: int) -> Sql:
    """A row whose making sets what a scan of the index in the same statement goes by, until the transaction ends.

    pgvector looks at them when the scan begins to walk, not when the statement is planned.
    """
    return Sql.of(
        "SELECT set_config('hnsw.ef_search', {searched}, true), "
        "set_config('hnsw.iterative_scan', 'relaxed_order', true)",
        searched=str(searched_among(candidates, indexed)),
    )
