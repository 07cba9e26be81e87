"""No migration after the first stops a shop that stays open, nor processes of the version before."""

from __future__ import annotations

import itertools

import pytest
from django.contrib.postgres.operations import AddConstraintNotValid, AddIndexConcurrently
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from django.db.models.functions import Now, Random

from shop_similarity.fields import ProductKeyField
from tests.shop_similarity.migrations.rules import faults

APP = "shop_similarity"
FIRST = "0001_first_release"


def _history() -> tuple[MigrationLoader, list[tuple[str, str]]]:
    """The plugin's migrations in their order."""
    loader = MigrationLoader(None)
    (leaf,) = (node for node in loader.graph.leaf_nodes() if node[0] == APP)
    return loader, [node for node in loader.graph.forwards_plan(leaf) if node[0] == APP]


def test_migrations_let_a_shop_stay_open():
    loader, plan = _history()
    assert plan[0] == (APP, FIRST)
    left_out, found = set(), []
    for before, node in itertools.pairwise(plan):
        found += faults(loader.graph.nodes[node], loader.project_state(before), left_out)
    assert found == []


def test_nothing_but_the_first_release_replaces_what_it_replaced():
    """A squash whose predecessors are deleted takes a database that has half of them for a finished one."""
    loader, plan = _history()
    assert [node for node in plan if loader.graph.nodes[node].replaces] in ([], [(APP, FIRST)])


def test_every_operation_has_a_way_back():
    loader, plan = _history()
    assert [
        operation.describe()
        for node in plan
        for operation in loader.graph.nodes[node].operations
        if not operation.reversible
    ] == []


def _leave(*operations) -> migrations.SeparateDatabaseAndState:
    return migrations.SeparateDatabaseAndState(state_operations=list(operations))


@pytest.fixture
def state() -> ProjectState:
    return _history()[0].project_state((APP, FIRST))


def _faults(state: ProjectState, *steps: list, atomic: bool = True) -> list[str]:
    """What is wrong with migrations of these operations, applied one after the other."""
    left_out, found = set(), []
    for number, operations in enumerate(steps):
        migration = migrations.Migration(f"step_{number}", APP)
        migration.operations, migration.atomic = operations, atomic
        found += faults(migration, state, left_out)
        state = migration.mutate_state(state)
    return found


TEXT = models.TextField(blank=True)
INTEGER = models.IntegerField

REFUSED = {
    "not null without db_default": [migrations.AddField("event", "page", models.TextField(default=""))],
    "the field that broke a deploy": [
        migrations.AddField("event", "seen_at", models.DateTimeField(default=Now), preserve_default=False)
    ],
    "a foreign key without null": [
        migrations.AddField("merchandisingrule", "version", models.ForeignKey("modelversion", models.CASCADE))
    ],
    "a default of its own for each row": [migrations.AddField("event", "dice", models.FloatField(db_default=Random()))],
    "an index in a new column": [migrations.AddField("event", "age", INTEGER(null=True, db_index=True))],
    "another name of a column": [migrations.RenameField("event", "visitor", "shopper")],
    "another name of a table": [migrations.RenameModel("Event", "Happening")],
    "another table": [migrations.AlterModelTable("event", "events")],
    "a removed column": [migrations.RemoveField("event", "visitor")],
    "a removed table": [migrations.DeleteModel("SweepRun")],
    "a column that leaves and must be given": [_leave(migrations.RemoveField("event", "visitor"))],
    "a column that is dropped at once": [
        migrations.RunSQL("ALTER TABLE shop_similarity_event DROP COLUMN visitor", migrations.RunSQL.noop)
    ],
    "a column that leaves and is dropped at once": [
        _leave(migrations.RemoveField("event", "bucket")),
        migrations.RunSQL("ALTER TABLE shop_similarity_event DROP COLUMN bucket", migrations.RunSQL.noop),
    ],
    "a column that must be given from now on": [
        migrations.AlterField("event", "bucket", models.PositiveSmallIntegerField(default=0))
    ],
    "another type": [migrations.AlterField("event", "visitor", INTEGER(null=True))],
    "a shorter text": [migrations.AlterField("event", "visitor", models.CharField(max_length=10))],
    "an index": [migrations.AddIndex("event", models.Index(fields=["visitor"], name="visitors"))],
    "an index that is dropped": [migrations.RemoveIndex("event", "shop_similarity_event_shown")],
    "an index in SQL": [migrations.RunSQL("CREATE INDEX x ON shop_similarity_event (visitor)", "DROP INDEX x")],
    "a constraint": [
        migrations.AddConstraint("event", models.CheckConstraint(condition=models.Q(position__gt=0), name="positive"))
    ],
    "a unique constraint": [
        migrations.AddConstraint("embedding", models.UniqueConstraint(fields=["file_name"], name="one_file"))
    ],
    "no way back": [migrations.RunSQL("SELECT 1")],
    "an index beside it that needs no transaction": [
        AddIndexConcurrently("event", models.Index(fields=["visitor"], name="visitors"))
    ],
}


@pytest.mark.parametrize("operations", REFUSED.values(), ids=REFUSED)
def test_refused(state, operations):
    assert len(_faults(state, operations)) == 1


def test_refused_with_more_beside_it_outside_of_a_transaction(state):
    index = AddIndexConcurrently("event", models.Index(fields=["visitor"], name="visitors"))
    assert len(_faults(state, [index, migrations.RunSQL("SELECT 1", "")], atomic=False)) == 1
    assert _faults(state, [index], atomic=False) == []


ALLOWED = {
    "db_default": [[migrations.AddField("event", "page", models.TextField(blank=True, db_default=""))]],
    "db_default now": [[migrations.AddField("event", "seen_at", models.DateTimeField(db_default=Now()))]],
    "null": [[migrations.AddField("event", "seller_id", ProductKeyField(null=True))]],
    "a table of its own": [
        [
            migrations.CreateModel("Seller", [("id", models.BigAutoField(primary_key=True))]),
            migrations.AddField("seller", "name", models.TextField()),
            migrations.AddIndex("seller", models.Index(fields=["name"], name="sellers")),
        ]
    ],
    "a longer text": [[migrations.AlterField("event", "visitor", models.CharField(max_length=200))]],
    "other words": [[migrations.AlterModelOptions("event", {"verbose_name": "happening"})]],
    "two steps": [
        [_leave(migrations.RemoveField("event", "bucket"))],
        [migrations.RunSQL("ALTER TABLE shop_similarity_event DROP COLUMN IF EXISTS bucket", "")],
    ],
    "three steps": [
        [migrations.AlterField("event", "visitor", models.CharField(max_length=100, db_default=""))],
        [_leave(migrations.RemoveField("event", "visitor"))],
        [migrations.RunSQL('ALTER TABLE "shop_similarity_event" DROP COLUMN "visitor"', "")],
    ],
    "a table that left": [
        [_leave(migrations.DeleteModel("SweepRun"))],
        [migrations.RunSQL("DROP TABLE shop_similarity_sweeprun", "")],
    ],
    "a constraint that is validated later": [
        [
            AddConstraintNotValid(
                "event", models.CheckConstraint(condition=models.Q(position__gt=0), name="shop_similarity_positive")
            )
        ]
    ],
}


@pytest.mark.parametrize("steps", ALLOWED.values(), ids=ALLOWED)
def test_allowed(state, steps):
    assert _faults(state, *steps) == []
