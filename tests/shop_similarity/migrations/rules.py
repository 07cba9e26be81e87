"""What a migration of the plugin may do to a shop that stays open, as docs/migrations.md says it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import connection, migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models.functions import Now

# Tables that grow with the shop's photos and visitors: nobody may wait until one of them has been read.
GROWING = {"embedding", "outboxentry", "event", "dailystatistic", "preference"}
# Values that Postgres keeps once for all old rows; any other expression writes every row anew.
CONSTANT = (models.Value, Now)

DROPPED_COLUMN = re.compile(r'ALTER TABLE "?(\w+)"?\s+DROP COLUMN (?:IF EXISTS )?"?(\w+)', re.IGNORECASE)
DROPPED_TABLE = re.compile(r'DROP TABLE (?:IF EXISTS )?"?(\w+)', re.IGNORECASE)
NEW_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)", re.IGNORECASE)


def faults(migration: migrations.Migration, before: ProjectState, left_out: set[tuple[str, str]]) -> list[str]:
    """What is wrong with a migration, a sentence each.

    Args:
        migration: any but the first one.
        before: the state that it is applied to.
        left_out: what earlier migrations took from the models and left in the database, as (table, column), the column
            empty for a whole table; what this one takes from the models is added.
    """
    state = before.clone()
    found = []
    made: set[str] = set()
    leaves: set[tuple[str, str]] = set()
    for operation, only in _operations(migration.operations):
        found += [f"{migration.name}: {fault}" for fault in _faults(operation, only, state, made, left_out, leaves)]
        if isinstance(operation, migrations.CreateModel):
            made.add(operation.name.lower())
        if only != "database":
            operation.state_forwards(migration.app_label, state)
    left_out |= leaves
    if migration.atomic and any(
        isinstance(operation, AddIndexConcurrently | RemoveIndexConcurrently) for operation in migration.operations
    ):
        found.append(f"{migration.name}: CONCURRENTLY needs atomic = False.")
    if not migration.atomic and len(migration.operations) > 1:
        found.append(f"{migration.name}: what is not atomic stands alone, so that it can be run again after a failure.")
    return found


def _operations(operations: list[Operation], only: str = "") -> Iterator[tuple[Operation, str]]:
    """All operations, with "state" or "database" for those that change only one of the two."""
    for operation in operations:
        if isinstance(operation, migrations.SeparateDatabaseAndState):
            yield from _operations(operation.database_operations, "database")
            yield from _operations(operation.state_operations, "state")
        else:
            yield operation, only


def _faults(operation, only, state, made, left_out, leaves) -> Iterator[str]:
    if not operation.reversible:
        yield f"{operation.describe()} has no way back."
    model = getattr(operation, "model_name", getattr(operation, "name", "")).lower()
    if model in made:
        return
    where = f"{model}.{getattr(operation, 'name', '')}"
    match operation:
        case migrations.AddField(field=field) if not isinstance(field, models.ManyToManyField | models.GeneratedField):
            if not field.null and not field.has_db_default():
                yield f"{where} needs db_default or null: processes of the version before insert rows without it."
            if field.has_db_default() and not isinstance(field._db_default_expression, CONSTANT):
                yield f"the db_default of {where} is no constant: every row would be written anew under a lock."
            if model in GROWING and (field.db_index or field.unique):
                yield f"{where} would build its index under a lock: add it without one, then AddIndexConcurrently."
        case migrations.RenameField() | migrations.RenameModel() | migrations.AlterModelTable():
            yield f"{operation.describe()}: processes of the version before know the old name alone."
        case migrations.RemoveField() | migrations.DeleteModel() if only != "state":
            yield f"{operation.describe()}: the version before uses it. Take it from the models a release earlier."
        case migrations.RemoveField():
            table = state.models["shop_similarity", model]
            field = table.fields[operation.name]
            if not field.null and not field.has_db_default():
                yield f"{where} needs db_default or null before it leaves: the next version inserts rows without it."
            leaves.add((_table(table), field.db_column or operation.name))
            # Of a foreign key.
            leaves.add((_table(table), f"{operation.name}_id"))
        case migrations.DeleteModel():
            leaves.add((_table(state.models["shop_similarity", model]), ""))
        case migrations.RunSQL():
            yield from _faults_of_sql(_text(operation.sql), left_out)
        case migrations.AlterField(field=field) if only != "state":
            old = state.models["shop_similarity", model].fields[operation.name]
            if old.null and not field.null:
                yield f"{where} must stay null: processes of the version before write it, and Postgres reads every row."
            if _type(old) != _type(field) and not _is_longer(old, field):
                yield f"{where} gets another type: every row would be written anew under a lock."
            if model in GROWING and (field.db_index, field.unique) > (old.db_index, old.unique):
                yield f"{where} would build its index under a lock: use AddIndexConcurrently."
        case migrations.AddIndex() if model in GROWING and not isinstance(operation, AddIndexConcurrently):
            yield f"an index on {model} would be built under a lock: use AddIndexConcurrently."
        case migrations.RemoveIndex() if model in GROWING and not isinstance(operation, RemoveIndexConcurrently):
            yield f"an index of {model} would be dropped under a lock: use RemoveIndexConcurrently."
        case migrations.AddConstraint(constraint=constraint) if only != "state" and model in GROWING:
            if type(operation) is migrations.AddConstraint:
                way = "AddConstraintNotValid, then ValidateConstraint in the next migration"
                if isinstance(constraint, models.UniqueConstraint):
                    way = "an index made CONCURRENTLY, then ADD CONSTRAINT ... USING INDEX"
                yield f"{constraint.name} would be checked under a lock: use {way}."


def _faults_of_sql(sql: str, left_out: set[tuple[str, str]]) -> Iterator[str]:
    for table, column in [*DROPPED_COLUMN.findall(sql), *((table, "") for table in DROPPED_TABLE.findall(sql))]:
        if (table, column) not in left_out:
            yield f"{table} {column} is dropped: the version before still uses it. Take it from the models first."
    if NEW_INDEX.search(sql):
        yield "CREATE INDEX without CONCURRENTLY holds writers up."


def _text(sql: str | list) -> str:
    parts = [sql] if isinstance(sql, str) else sql
    return ";\n".join(part if isinstance(part, str) else part[0] for part in parts)


def _table(model) -> str:
    return model.options.get("db_table") or f"{model.app_label}_{model.name_lower}"


def _type(field: models.Field) -> str:
    field = field.clone()
    field.set_attributes_from_name(field.name or "field")
    return field.get_internal_type() if field.is_relation else str(field.db_type(connection))


def _is_longer(old: models.Field, new: models.Field) -> bool:
    """Postgres reads no row for a longer varchar, or for text in its place."""
    return isinstance(old, models.CharField) and (
        type(new) is models.TextField or (type(new) is type(old) and (new.max_length or 0) >= (old.max_length or 0))
    )
