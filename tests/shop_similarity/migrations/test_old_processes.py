"""Processes of the version before go on while a migration runs and after it, with the columns that they know."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from django.db import IntegrityError, connections, migrations, models
from django.db.migrations.loader import MigrationLoader

from tests.shop_similarity.migrations import database

pytestmark = pytest.mark.long

TABLES = ["event", "outboxentry", "embedding", "visualquery", "preference"]


@pytest.fixture
def empty(postgres_url, django_db_modify_db_settings, django_db_blocker):
    with django_db_blocker.unblock(), database.empty_database(postgres_url) as connection:
        yield connection


class OldProcess(threading.Thread):
    """Inserts, updates and reads rows of one table with the models of a state until it is told to stop."""

    def __init__(self, model: type[models.Model], first: int) -> None:
        super().__init__()
        self.model = model
        self.first = first
        self.written = 0
        self.slowest = 0.0
        self.error: Exception | None = None
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                start = time.monotonic()
                row = database.insert(self.model, self.first + self.written)
                row.save(using=database.ALIAS)
                assert list(self.model.objects.using(database.ALIAS).filter(pk=row.pk))
                self.written += 1
                self.slowest = max(self.slowest, time.monotonic() - start)
        except Exception as error:
            self.error = error
        finally:
            connections.close_all()


def upgrade_while_old_processes_run(apps, upgrade) -> list[OldProcess]:
    """Run `upgrade` among processes that have the models of `apps`; they end some rows later."""
    database.fill(apps)
    processes = [OldProcess(model, 10) for model in database.tables(apps) if model._meta.model_name in TABLES]
    for process in processes:
        process.start()
    try:
        _wait_for_more(processes)
        upgrade()
        _wait_for_more(processes)
    finally:
        for process in processes:
            process.stopping.set()
        for process in processes:
            process.join()
    return processes


def _wait_for_more(processes: list[OldProcess], rows: int = 10) -> None:
    wanted = [process.written + rows for process in processes]
    while any(
        process.written < number and process.error is None for process, number in zip(processes, wanted, strict=True)
    ):
        time.sleep(0.01)


def _errors(processes: list[OldProcess]) -> list[str]:
    return [f"{process.model._meta.model_name}: {process.error}" for process in processes if process.error]


def test_no_migration_of_the_plugin_stops_them(empty):
    names = database.plan()
    for before, name in itertools.pairwise(names):
        database.migrate(None)
        apps = database.migrate(before)
        processes = upgrade_while_old_processes_run(apps, lambda name=name: database.migrate(name))
        assert _errors(processes) == [], name


def _later(*operations) -> tuple:
    migration = migrations.Migration("later", database.APP)
    migration.operations = list(operations)
    state = MigrationLoader(None).project_state((database.APP, database.plan()[0]))
    return migration, state


def test_a_column_with_db_default_does_not_stop_them(empty):
    apps = database.migrate(database.plan()[0])
    migration, state = _later(
        *(migrations.AddField(name, "note_of_later", models.TextField(db_default="")) for name in TABLES)
    )
    processes = upgrade_while_old_processes_run(apps, lambda: database.apply(migration, state))
    assert _errors(processes) == []
    assert all(process.written >= 20 for process in processes)


def test_a_column_without_it_does(empty):
    """What the tests above would find: so did the unreleased 0005, whose Event.shown_at had no default."""
    apps = database.migrate(database.plan()[0])
    migration, state = _later(
        migrations.AddField("event", "seen_at", models.DateTimeField(default=database.MOMENT), preserve_default=False)
    )
    processes = upgrade_while_old_processes_run(apps, lambda: database.apply(migration, state))
    assert [type(process.error) for process in processes if process.error] == [IntegrityError]
    assert 'null value in column "seen_at"' in _errors(processes)[0]
