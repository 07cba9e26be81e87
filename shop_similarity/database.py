"""The database of the plugin's tables: its alias, atomic blocks, cursors and advisory locks.

No other module asks Django for any of these. All tables of the plugin are in one database, together with the shop's
products and photos, for searches join both. Functions that take an ``alias`` use the one that is written to where none
is given.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from django.db import (
    DatabaseError,
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
    models,
    router,
    transaction,
)
from django.utils import translation

from .models import Embedding
from .models.rows import on_primary, reads_primary

__all__ = ["on_primary"]

logger = logging.getLogger(__name__)

# Between two statements of a short transaction; a busy machine may take seconds for what is a matter of milliseconds.
_LONGEST_PAUSE_SECONDS = 20
# No statement of a short transaction should take so long, on a busy machine either, nor wait so long for a lock.
_LONGEST_STATEMENT_SECONDS = 600


def write_alias() -> str:
    """Alias of the database that is written to, and read where nothing may be out of date."""
    return router.db_for_write(Embedding)


def read_alias() -> str:
    """Alias of the database that searches read: the same one, or a replica of it."""
    return write_alias() if reads_primary() else router.db_for_read(Embedding)


def where_written(rows: models.QuerySet) -> models.QuerySet:
    """Rows of the shop, read from the primary within :func:`on_primary` unless the shop names another database."""
    if reads_primary():
        rows = rows.all()
        # Not using(): a queryset with an alias of its own may be no subquery of one without.
        rows._for_write = True  # type: ignore[attr-defined]  # private, so the stubs leave it out
    return rows


def aliases_of(model: type[models.Model]) -> set[str]:
    """Aliases of the databases that rows of a model are written to and read from."""
    return {router.db_for_write(model), router.db_for_read(model)}


def is_written_to(alias: str) -> bool:
    """Whether rows that are written under this alias are in the database of the plugin's tables.

    A shop may save products to an archive as well, whose rows nobody embeds, and may reach one database under two
    aliases, past its pooler and through it.
    """
    ours = write_alias()
    if alias == ours:
        return True
    try:
        theirs = _identity(alias)
        return theirs is not None and theirs == _identity(ours)
    except DatabaseError:
        # Ours is away: whatever the shop writes elsewhere must not fail by that, and the sweep finds the rest.
        return False


@lru_cache(maxsize=100)
def _identity(alias: str) -> tuple | None:
    """What tells a database with the plugin's tables from every other one; None where it has none of them."""
    if connections[alias].vendor != "postgresql" or not has_tables(alias):
        return None
    with connections[alias].cursor() as statements:
        # A server started at a microsecond; copies of a database on it have other numbers.
        statements.execute(
            "SELECT pg_postmaster_start_time(), (SELECT oid FROM pg_database WHERE datname = current_database()), "
            "to_regclass(%s)::oid",
            [Embedding._meta.db_table],
        )
        identity = statements.fetchone()
    return None if identity[-1] is None else identity


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


@contextmanager
def stored_language() -> Iterator[None]:
    """Sentences that workers store are written in English: who reads them may have any language, a worker has none."""
    with translation.override("en"):
        yield


def cursor(alias: str | None = None) -> Any:
    """A cursor for SQL of the plugin's own, to be used in a ``with`` statement."""
    return connection(alias).cursor()


def atomic(alias: str | None = None, *, durable: bool = False) -> AbstractContextManager[None]:
    """A transaction, or a savepoint within one; ``durable`` refuses to be within one."""
    return transaction.atomic(using=alias or write_alias(), durable=durable)


def is_pooled(alias: str | None = None) -> bool:
    """Whether a pooler such as PgBouncer stands between this connection and the server.

    It may give the session to others after each transaction, with all that was set, listened for or left open in it.
    """
    ours = connection(alias)
    ours.ensure_connection()
    if ours.connection not in _pooled:
        with ours.cursor() as statements:
            statements.execute("SELECT pg_backend_pid()")
            # A pooler makes up a number of its own for who connects to it.
            _pooled[ours.connection] = statements.fetchone()[0] != ours.connection.info.backend_pid
    return _pooled[ours.connection]


_pooled: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def stream(rows: models.QuerySet, size: int = 2_000) -> Iterator[Any]:
    """Rows one after another, without holding all of them where there may be many; for workers and commands.

    A pooler would lose the server's cursor, so through one they are held after all.
    """
    return iter(rows) if is_pooled(rows.db) else rows.iterator(chunk_size=size)


@contextmanager
def short_atomic() -> Iterator[None]:
    """A transaction of a worker that holds locks which others need: the shop that deletes a photo, other workers.

    A worker that is stopped in the middle of it would hold them for as long as it is stopped, so Postgres ends its
    session then. Limits of the role are made for pages, and would cancel it again and again, so it sets its own. Within
    a transaction of somebody else, whose time is not ours, it is a savepoint.
    """
    with _limited(_LONGEST_STATEMENT_SECONDS):
        yield


@contextmanager
def long_atomic() -> Iterator[None]:
    """As :func:`short_atomic`, for statements of workers that walk through a whole table, however long that takes."""
    with _limited(0):
        yield


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    is_ours = not in_transaction()
    with atomic():
        if is_ours:
            with cursor() as statements:
                statements.execute(
                    "SELECT set_config('idle_in_transaction_session_timeout', %s, true), "
                    "set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)",
                    [f"{_LONGEST_PAUSE_SECONDS}s", f"{seconds}s", f"{_LONGEST_STATEMENT_SECONDS}s"],
                )
        yield


@contextmanager
def unlimited_cursor(wanted: Mapping[str, str] | None = None) -> Iterator[Any]:
    """A cursor for one statement that may take hours and can be in no transaction, on a connection of its own.

    Through a pooler the limits of the role stay: what is set for a session would be left to others there.

    Args:
        wanted: values of further parameters of the server, by their names.
    """
    ours = connection().copy()
    try:
        with ours.cursor() as statements:
            if not is_pooled():
                for name, value in {"statement_timeout": "0", "lock_timeout": "0", **(wanted or {})}.items():
                    statements.execute("SELECT set_config(%s, %s, false)", [name, value])
            yield statements
    finally:
        ours.close()


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
def long_lock(name: str) -> Iterator[bool]:
    """Hold the lock for as long as the block lasts, across transactions; False, at once, where somebody else has it.

    A transaction of a connection of its own holds it, in which nothing else is done: a lock of the session would be
    left with a pooler, which gives the session to others between two transactions. For workers and commands alone, and
    for nothing but work that can't be one transaction. Where that connection is cut off another worker may begin the
    same work, so what must not be done twice is looked at once more in its own transaction.
    """
    holder = connection().copy()
    try:
        holder.set_autocommit(False)
        with holder.cursor() as statements:
            statements.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            statements.execute("SELECT pg_try_advisory_xact_lock(%s)", [_number(name)])
            (is_ours,) = statements.fetchone()
        yield is_ours
    finally:
        try:
            # The server lets go of it before this goes on; of a session that is closed it hears later.
            holder.rollback()
        except DatabaseError:
            logger.debug("The connection of the lock %s was cut off.", name, exc_info=True)
        finally:
            holder.close()


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
