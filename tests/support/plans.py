"""What Postgres reads for the statements that something sends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection


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


def _scans(sql: str, node: dict[str, Any]) -> Iterator[Scan]:
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        removed = sum(value for name, value in node.items() if name.startswith("Rows Removed"))
        rows = int((node["Actual Rows"] + removed) * node["Actual Loops"])
        yield Scan(sql, node["Relation Name"], rows, node.get("Index Cond", ""), node.get("Index Name", ""))
    for child in node.get("Plans", []):
        yield from _scans(sql, child)
