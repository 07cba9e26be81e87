"""The one place for alias, transactions and advisory locks of the plugin's tables, and that nobody goes round it."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import DatabaseError, connection, connections, transaction

from shop_similarity import database

ROOT = Path(django_settings.BASE_DIR)
# Names of django.db that say nothing about which database.
ERRORS = {"DataError", "DatabaseError", "Error", "IntegrityError", "InterfaceError", "OperationalError"}
HARMLESS = ERRORS | {"close_old_connections", "models"}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the plugin by its path, without migrations."""
    for room in ("shop_similarity", "training", "workers"):
        for path in (ROOT / room).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            # The links in shop_similarity lead to the other two.
            if not name.startswith(
                ("shop_similarity/training/", "shop_similarity/workers/", "shop_similarity/migrations")
            ):
                yield name, ast.parse(path.read_text(encoding="utf-8"))


def _asks(tree: ast.Module) -> set[str]:
    """Names by which a module reaches for a database of Django's."""
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("django.db", "django.db.transaction")
        for alias in node.names
    } - HARMLESS
    # Views refuse the transaction of a request, whatever database that is.
    used = {ast.unparse(node) for node in ast.walk(tree) if ast.unparse(node).startswith("transaction.")}
    return names - {"transaction"} if used == {"transaction.non_atomic_requests"} else names


def test_no_module_asks_django_for_a_database():
    found = {name: asks for name, tree in _modules() if (asks := _asks(tree))}
    assert found.pop("shop_similarity/database.py")
    assert found == {}


def test_long_locks_are_taken_by_workers_and_commands_alone():
    """Each takes a connection of its own, and no request of the shop needs one."""
    calls = {
        (name, getattr(function, "name", ""), node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id)
        for name, tree in _modules()
        for function in tree.body
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }
    takers = {(name, function) for name, function, called in calls if called == "long_lock"}
    assert takers == {
        ("shop_similarity/embedding/engines/copies.py", "feed"),
        ("shop_similarity/embedding/index.py", "build_index"),
        ("shop_similarity/embedding/sweep.py", "go_on"),
        ("shop_similarity/embedding/sweep.py", "sweep"),
        ("shop_similarity/feedback/roll_up.py", "roll_up"),
        ("shop_similarity/rollout/recall.py", "measure_nightly"),
    }
    long_work = (
        "build_index",
        "build_index_unless_it_failed",
        "sweep",
        "go_on",
        "advance",
        "roll_up",
        "measure_nightly",
        "feed",
    )
    callers = {(name, function) for name, function, called in calls if called in long_work}
    inside = {(name, function) for name, function in callers if name.startswith("shop_similarity/")}
    assert inside == {
        # The feeding itself, and an engine whose copy is the index: nothing of the plugin has that one built so.
        ("shop_similarity/embedding/engines/copies.py", "feed"),
        ("shop_similarity/embedding/engines/with_pgvector.py", "Pgvector"),
        ("shop_similarity/embedding/index.py", "build_index_unless_it_failed"),
        ("shop_similarity/management/commands/roll_up_events.py", "Command"),
        ("shop_similarity/management/commands/sync_engine.py", "Command"),
        ("shop_similarity/rollout/activation.py", "advance"),
    }


def _in_thread(work: Callable) -> object:
    answers = []

    def run() -> None:
        try:
            answers.append(work())
        except Exception as error:
            answers.append(type(error).__name__)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return answers[0]


def _take(shared: bool) -> str:
    with database.atomic():
        with database.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '200ms'")
        database.lock("a test", shared=shared)
    return "held"


@pytest.mark.django_db(transaction=True)
def test_a_lock_is_held_until_the_transaction_ends_and_can_be_shared():
    with pytest.raises(RuntimeError, match="inside one"):
        database.lock("a test")
    with transaction.atomic():
        database.lock("a test", shared=True)
        assert _in_thread(lambda: _take(shared=True)) == "held"
        assert _in_thread(lambda: _take(shared=False)) == "OperationalError"
    with transaction.atomic():
        database.lock("a test")
        database.lock("another one")
        assert _in_thread(lambda: _take(shared=True)) == "OperationalError"
    assert _in_thread(lambda: _take(shared=False)) == "held"


@pytest.mark.django_db(transaction=True)
def test_a_long_lock_outlasts_transactions_and_ends_with_its_block():
    def take() -> bool:
        with database.long_lock("a test") as is_ours:
            return is_ours

    with pytest.raises(ZeroDivisionError), database.long_lock("a test") as is_ours:
        assert is_ours
        with transaction.atomic():
            pass
        assert _in_thread(take) is False
        1 / 0  # noqa: B018
    assert _in_thread(take) is True
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert cursor.fetchone() == (0,)


def test_only_one_place_opens_cursors_of_the_server():
    """A pooler loses them between two transactions, so whoever streams asks whether there is one."""
    found = {
        name
        for name, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "iterator"
    }
    assert found == {"shop_similarity/database.py"}


@pytest.mark.django_db(transaction=True)
def test_short_transactions_set_limits_of_their_own():
    def limits() -> tuple:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
            return cursor.fetchone()

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '30ms'; SET lock_timeout = '20ms'")
    try:
        with database.short_atomic():
            assert limits() == ("10min", "10min")
        with database.long_atomic():
            assert limits() == ("0", "10min")
        with transaction.atomic(), database.short_atomic():
            assert limits() == ("30ms", "20ms")
        assert limits() == ("30ms", "20ms")
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_session_that_stops_in_the_middle_of_a_short_transaction_is_ended(monkeypatch):
    monkeypatch.setattr(database, "_LONGEST_PAUSE_SECONDS", 1)
    taken = threading.Event()

    def stop_in_the_middle() -> str:
        try:
            with database.short_atomic():
                database.lock("a test")
                taken.set()
                time.sleep(4)
                database.lock("another one")
        except DatabaseError as error:
            return "is away" if database.is_away(error) else repr(error)
        return "was not ended"

    def take() -> str:
        taken.wait(10)
        # Postgres waits for as long as it takes: without an end of the other one it would be too late.
        with database.atomic():
            database.lock("a test")
        return "ended" if thread.is_alive() else "slept"

    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(_in_thread(stop_in_the_middle)))
    thread.start()
    assert _in_thread(take) == "ended"
    thread.join()
    assert answers == ["is away"]


@pytest.mark.django_db(transaction=True)
def test_short_transaction_leaves_the_sessions_of_others_as_they_are():
    def pause() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            return cursor.fetchone()[0]

    with database.short_atomic():
        assert pause() == "20s"
    assert pause() == "0"
    with transaction.atomic(), database.short_atomic():
        assert pause() == "0"
