"""More databases for a test that has one: other aliases of its Postgres, with empty tables of their own or without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

from django.db import connection, connections


@contextmanager
def other_database(alias: str, tables: Sequence[str] | None = None, *, path: str = "", **values) -> Iterator[None]:
    """An alias for a schema with empty copies of these tables; with None for the test's own database once more.

    Args:
        path: further schemas in which names are looked for, such as ``,public`` for types of extensions.
        values: what differs in the alias's settings.
    """
    described = deepcopy(connection.settings_dict) | values
    if tables is not None:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA {alias}")
            for table in tables:
                cursor.execute(f"CREATE TABLE {alias}.{table} (LIKE public.{table} INCLUDING ALL)")
        described["OPTIONS"] = {**described.get("OPTIONS", {}), "options": f"-c search_path={alias}{path}"}
    connections.settings[alias] = described
    try:
        # Django's test cases refuse to connect to what they were not told of; what is connected they let be.
        connections[alias].connect()
        yield
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias]
        if tables is not None:
            with connection.cursor() as cursor:
                cursor.execute(f"DROP SCHEMA {alias} CASCADE")
