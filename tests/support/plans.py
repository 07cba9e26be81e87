"""What Postgres reads for the statements that something sends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, models


@dataclass(frozen=True)
class Scan:
    """One scan of one statement: of which table, how many rows it read, kept or not, by which condition of which index,
    which is "" for a table that is read as it lies.
    """

    sql: str
    table: str
    rows: int
    condition: str
    index: str


def vacuum() -> None:
    """Clear away what other tests took back: it stays in tables and indexes, where Postgres counts its pages, and a
    bitmap of an index its rows.
    """
    tables = connection.introspection.django_table_names(only_existing=True)
    # Within a test's own transaction Postgres refuses to.
    beside = connection.copy()
    try:
        with beside.cursor() as cursor:
            # Rather an error than to wait for ever for what another test has left open.
            cursor.execute("SET lock_timeout = '1min'")
            cursor.execute(f"VACUUM (FULL) {', '.join(map(connection.ops.quote_name, tables))}")
    finally:
        beside.close()


@pytest.fixture
def vacuumed(db) -> None:
    """Tables and indexes in which nothing of other tests lies."""
    vacuum()


@pytest.fixture(params=["1.1", "4"])
def random_page_cost(request, vacuumed) -> None:
    """What a page from anywhere costs beside the next one: by a server told of a fast disk, and by one as it comes."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL random_page_cost = {request.param}")


@contextmanager
def scans() -> Iterator[list[Scan]]:
    """All scans of the plugin's and the shop's tables meanwhile, by this connection. Within a transaction only."""
    found: list[Scan] = []

    def explain(execute: Any, sql: str, params: Any, many: bool, context: dict) -> Any:
        if not many and re.match(r"[\s(]*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", sql):
            cursor = context["cursor"].cursor
            cursor.execute("SAVEPOINT explained")
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
            (plan,) = cursor.fetchone()[0]
            cursor.execute("ROLLBACK TO SAVEPOINT explained")
            found.extend(_scans(sql, plan["Plan"]))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield found


def never_counted(model: type[models.Model]) -> None:
    """Have Postgres know of the model's table what it knows of one that was just filled."""
    if connection.pg_version < 180_000:
        pytest.skip("only PostgreSQL 18 forgets its statistics when it is told to")
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_clear_relation_stats('public', %s)", [table])
        for field in model._meta.concrete_fields:
            cursor.execute("SELECT pg_clear_attribute_stats('public', %s, %s, false)", [table, field.column])


def _scans(sql: str, node: dict[str, Any], table: str = "") -> Iterator[Scan]:
    table = node.get("Relation Name", table)
    # A bitmap is of its parent's table; what it marks was read in the index, whatever is left of it in the end.
    if ("Relation Name" in node and node["Node Type"] != "ModifyTable") or node["Node Type"] == "Bitmap Index Scan":
        removed = sum(value for name, value in node.items() if name.startswith("Rows Removed"))
        rows = int((node["Actual Rows"] + removed) * node["Actual Loops"])
        yield Scan(sql, table, rows, node.get("Index Cond", ""), node.get("Index Name", ""))
    for child in node.get("Plans", []):
        yield from _scans(sql, child, table)
