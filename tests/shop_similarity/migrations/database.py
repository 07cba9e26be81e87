"""A database of its own in which the plugin's migrations run, and rows for each of its tables as of any state."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.apps.registry import Apps
from django.contrib.postgres.fields import ArrayField
from django.db import connections, models
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState
from pgvector.django import BitField, HalfVectorField
from psycopg import sql

APP = "shop_similarity"
ALIAS = "migrations"
MOMENT = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)

# What constraints ask of rows, wherever a state has these fields.
CONSTRAINED = {
    "merchandisingrule": {"category": "", "target_category": "", "attribute": "", "ends_at": None},
    "outboxentry": {"failed_at": None},
    "modelversion": {"state": "candidate"},
}


@contextmanager
def empty_database(postgres_url: str) -> Iterator[Any]:
    """The connection of an empty database, known to Django as ALIAS while the block lasts."""
    name = f"migrations_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    connections.settings[ALIAS] = connections.settings["default"] | {"NAME": name}
    try:
        yield connections[ALIAS]
    finally:
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]
        with psycopg.connect(postgres_url, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def plan() -> list[str]:
    """Names of the plugin's migrations in their order."""
    executor = MigrationExecutor(connections[ALIAS])
    (leaf,) = (node for node in executor.loader.graph.leaf_nodes() if node[0] == APP)
    return [name for app, name in executor.loader.graph.forwards_plan(leaf) if app == APP]


def migrate(name: str | None) -> Apps:
    """Go to a migration, or to none of them; returns the models as they are there."""
    executor = MigrationExecutor(connections[ALIAS])
    executor.migrate([(APP, name)])
    executor = MigrationExecutor(connections[ALIAS])
    return executor.loader.project_state((APP, name) if name else []).apps


def apply(migration: Migration, state: ProjectState) -> ProjectState:
    """Apply a migration that is in no file; returns the state behind it."""
    with connections[ALIAS].schema_editor(atomic=migration.atomic) as editor:
        return migration.apply(state, editor)


def tables(apps: Apps) -> list[type[models.Model]]:
    """The plugin's models, those that others refer to first."""
    left = [model for model in apps.get_app_config(APP).get_models() if not model._meta.proxy]
    found: list[type[models.Model]] = []
    while left:
        ready = [model for model in left if _referred(model) <= {*found, model}]
        found += ready
        left = [model for model in left if model not in ready]
    return found


def _referred(model: type[models.Model]) -> set[type[models.Model]]:
    return {field.related_model for field in model._meta.concrete_fields if field.is_relation}


def fill(apps: Apps, first: int = 0) -> None:
    """Two rows in each table, with the numbers `first` and `first + 1`."""
    for model in tables(apps):
        insert(model, first)
        insert(model, first + 1)


def insert(model: type[models.Model], number: int) -> models.Model:
    """A row with a value in every field, as a process with these models writes it; a number gives other values."""
    fixed = CONSTRAINED.get(model._meta.model_name, {})
    values = {
        field.attname: fixed[field.name] if field.name in fixed else _value(field, number)
        for field in model._meta.concrete_fields
        if not isinstance(field, models.AutoField)
    }
    return model.objects.using(ALIAS).create(**values)


def _value(field: models.Field, number: int) -> Any:
    if field.is_relation:
        keys = list(field.related_model.objects.using(ALIAS).order_by("pk").values_list("pk", flat=True))
        # Two versions side by side are two.
        return keys[(number + (field.name == "treatment")) % len(keys)]
    if field.choices:
        return field.choices[number % len(field.choices)][0]
    match field:
        case HalfVectorField():
            return [1.0 + number % 8] * field.dimensions
        case BitField():
            return f"{1 + number % 8:b}".zfill(field.length)
        case ArrayField():
            return [str(number), "2"]
        case models.UUIDField():
            return uuid.UUID(int=number)
        case models.DateTimeField():
            return MOMENT + datetime.timedelta(days=number)
        case models.DateField():
            return (MOMENT + datetime.timedelta(days=number)).date()
        case models.BooleanField():
            return bool(number % 2)
        case models.FloatField():
            return number / 8
        case models.JSONField():
            return {"number": number}
        case models.BinaryField():
            return bytes([1, number % 256])
        case models.CharField() | models.TextField() | models.FileField():
            return f"{field.name} {number}"
    return number


def rows(apps: Apps) -> dict[str, dict[Any, dict[str, str]]]:
    """All that the tables hold: ``{table: {key: {column: value}}}``, every value as Postgres writes it."""
    found = {}
    with connections[ALIAS].cursor() as cursor:
        for model in tables(apps):
            cursor.execute(
                f'SELECT t."{model._meta.pk.column}"::text, c.key, c.value '
                f'FROM "{model._meta.db_table}" t, LATERAL json_each_text(row_to_json(t)) c'
            )
            table = found[model._meta.db_table] = {}
            for key, column, value in cursor.fetchall():
                table.setdefault(key, {})[column] = value
    return found


def schema() -> list[tuple]:
    """Columns, constraints, indexes, kinds of tables and extensions."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(
            """
            WITH mine AS (SELECT oid, relname, relkind, relpersistence FROM pg_class
                          WHERE relname LIKE 'shop\\_similarity\\_%' AND relkind IN ('r', 'S'))
            SELECT 'table', relname, concat(relkind, relpersistence), '' FROM mine
            UNION ALL SELECT 'column', relname || '.' || attname, concat(format_type(atttypid, atttypmod), ' ',
                attnotnull, attidentity, attstorage), COALESCE(pg_get_expr(adbin, adrelid), '')
              FROM mine JOIN pg_attribute ON attrelid = mine.oid AND attnum > 0 AND NOT attisdropped
              LEFT JOIN pg_attrdef ON adrelid = mine.oid AND adnum = attnum WHERE relkind = 'r'
            UNION ALL SELECT 'constraint', relname || '.' || conname, pg_get_constraintdef(pg_constraint.oid), ''
              FROM mine JOIN pg_constraint ON conrelid = mine.oid
            UNION ALL SELECT 'index', tablename || '.' || indexname, indexdef, '' FROM pg_indexes
              WHERE tablename LIKE 'shop\\_similarity\\_%'
            UNION ALL SELECT 'trigger', relname || '.' || tgname, pg_get_triggerdef(pg_trigger.oid), ''
              FROM mine JOIN pg_trigger ON tgrelid = mine.oid WHERE NOT tgisinternal
            ORDER BY 1, 2, 3"""
        )
        return cursor.fetchall()
