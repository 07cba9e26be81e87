"""The lock between writing embeddings and switching versions: many may write at once, but nobody while a switch looks.

The shop's own transactions never take it, so no save waits for a switch.
"""

from __future__ import annotations

from django.db import connections

# Any number that no other user of advisory locks is likely to take.
_LOCK = 0x5105_0A07


def lock_for_writing(using: str) -> None:
    """Keep switches away until the transaction ends; other writers go on."""
    _lock("pg_advisory_xact_lock_shared", using)


def lock_for_switching(using: str) -> None:
    """Keep writers of embeddings and other switches away until the transaction ends."""
    _lock("pg_advisory_xact_lock", using)


def _lock(function: str, using: str) -> None:
    connection = connections[using]
    if not connection.in_atomic_block:
        raise RuntimeError("The lock ends with its transaction, so it must be taken inside one.")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s)", [_LOCK])
