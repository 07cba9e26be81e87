"""Emptying the test database after a test that commits: tables that are empty are left alone."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql.operations import DatabaseOperations

_REFERRED_TO = "SELECT DISTINCT confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
_truncate_all = DatabaseOperations.sql_flush


def flush_what_is_filled() -> None:
    """Have Django's flush empty the tables that hold something, not make new files for all tables and their indexes."""
    DatabaseOperations.sql_flush = _sql_flush


def _sql_flush(operations: DatabaseOperations, style: Any, tables: list[str], **options: Any) -> list[str]:
    quote = operations.quote_name
    filled = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {quote(table)})" for table in tables)
    with operations.connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if not cursor.fetchone()[0] or not filled or any(options.values()):
            return _truncate_all(operations, style, tables, **options)
        cursor.execute(filled)
        found = [table for (table,) in cursor.fetchall()]
        cursor.execute(_REFERRED_TO)
        referred_to = {name.strip('"') for (name,) in cursor.fetchall()}
    return [
        # Foreign keys are not looked at meanwhile, which takes a superuser.
        "SET LOCAL session_replication_role = replica",
        # Dead rows would be in the way of searches in an index of vectors; nothing refers to vectors.
        *(f"{'DELETE FROM' if table in referred_to else 'TRUNCATE'} {quote(table)}" for table in found),
        "SET LOCAL session_replication_role = origin",
    ]
