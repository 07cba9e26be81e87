"""The database of the plugin's tables: its alias, atomic blocks, cursors and advisory locks.

No other module asks Django for any of these. All tables of the plugin are in one database, together with the shop's
products and photos, for searches join both. Functions that take an ``alias`` use the one that is written to where none
is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.db import InterfaceError, InternalError, OperationalError, connections, models, router, transaction

from .models import Embedding

# Between two statements of a short transaction; a busy machine may take seconds for what is a matter of milliseconds.
_LONGEST_PAUSE_SECONDS = 20


def write_alias() -> str:
    """Alias of the database that is written to, and read where nothing may be out of date."""
    return router.db_for_write(Embedding)


def read_alias() -> str:
    """Alias of the database that searches read: the same one, or a replica of it."""
    return router.db_for_read(Embedding)


def has_tables(alias: str) -> bool:
    """Whether the plugin's tables are migrated into this database."""
    return router.allow_migrate_model(alias, Embedding)


def connection(alias: str | None = None) -> Any:
    """This thread's connection: for the types of keys and the quoting of names; :func:`cursor` runs statements."""
    return connections[alias or write_alias()]


def close_connections() -> None:
    """Close those of this thread. A thread that ends without it leaves them open."""
    connections.close_all()


# Of SQLSTATE: a limit of Postgres that a value goes beyond, such as that of a row in an index.
_LIMIT_EXCEEDED = "54"
# A session that was ended by what short_atomic() has set.
_PAUSED_TOO_LONG = "25P03"


def is_away(error: BaseException) -> bool:
    """Whether an exception says that the database is away, busy or full, and nothing about the values sent to it."""
    sqlstate = getattr(error.__cause__, "sqlstate", None) or ""
    if isinstance(error, InternalError):
        return sqlstate == _PAUSED_TOO_LONG
    return isinstance(error, OperationalError | InterfaceError) and not sqlstate.startswith(_LIMIT_EXCEEDED)


def storable(text: str) -> str:
    """Text as Postgres takes it: without zero bytes, and lone surrogates (of file names, say) written out."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def cursor(alias: str | None = None) -> Any:
    """A cursor for SQL of the plugin's own, to be used in a ``with`` statement."""
    return connection(alias).cursor()


def atomic(alias: str | None = None, *, durable: bool = False) -> AbstractContextManager[None]:
    """A transaction, or a savepoint within one; ``durable`` refuses to be within one."""
    return transaction.atomic(using=alias or write_alias(), durable=durable)


@contextmanager
def short_atomic() -> Iterator[None]:
    """A transaction of a worker that holds locks which others need: the shop that deletes a photo, other workers.

    A worker that is stopped in the middle of it would hold them for as long as it is stopped, so Postgres ends its
    session then. Within a transaction of somebody else, whose time is not ours, it is a savepoint.
    """
    is_ours = not in_transaction()
    with atomic():
        if is_ours:
            with cursor() as statements:
                statements.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{_LONGEST_PAUSE_SECONDS}s'")
        yield


def in_transaction(alias: str | None = None) -> bool:
    return connection(alias).in_atomic_block


def on_commit(function: Callable[[], Any], alias: str | None = None) -> None:
    """Call ``function`` when the transaction has been committed; at once outside of one."""
    transaction.on_commit(function, using=alias or write_alias())


def raw_delete(rows: models.QuerySet, alias: str | None = None) -> int:
    """Delete rows that nothing refers to by one statement, without signals; returns how many."""
    return rows._raw_delete(alias or write_alias())


def lock(name: str, alias: str | None = None, *, shared: bool = False) -> None:
    """Wait for the advisory lock of this name and hold it until the transaction ends.

    Args:
        shared: many may hold it together, but not beside one who does not share it.

    Raises:
        RuntimeError: called outside a transaction, with which the lock would end at once.
    """
    if not in_transaction(alias):
        raise RuntimeError("The lock ends with its transaction, so it must be taken inside one.")
    with cursor(alias) as statements:
        statements.execute(f"SELECT pg_advisory_xact_lock{'_shared' * shared}(%s)", [_number(name)])


@contextmanager
def session_lock(name: str) -> Iterator[bool]:
    """Hold the lock for as long as the block lasts, across transactions; False, at once, where somebody else has it.

    It belongs to the connection, which a pooler in transaction mode may give to others meanwhile. So it is for workers
    and commands alone, which have a connection of their own, and never for a request to the shop; and for nothing but
    work that can't be one transaction.
    """
    with cursor() as statements:
        statements.execute("SELECT pg_try_advisory_lock(%s)", [_number(name)])
        (is_ours,) = statements.fetchone()
    try:
        yield is_ours
    finally:
        if is_ours:
            with cursor() as statements:
                statements.execute("SELECT pg_advisory_unlock(%s)", [_number(name)])


def lock_for_writing(alias: str | None = None) -> None:
    """Keep switches of the version away until the transaction ends; other writers of embeddings go on.

    Many may write at once, but nobody while a switch looks. The shop's own transactions never take this lock, so no
    save waits for a switch.
    """
    lock("versions", alias, shared=True)


def lock_for_switching(alias: str | None = None) -> None:
    """Keep writers of embeddings and other switches away until the transaction ends."""
    lock("versions", alias)


def _number(name: str) -> int:
    """The number by which Postgres knows the lock, which no other user of advisory locks is likely to take."""
    return int.from_bytes(hashlib.sha256(f"shop_similarity {name}".encode()).digest()[:8], signed=True)
