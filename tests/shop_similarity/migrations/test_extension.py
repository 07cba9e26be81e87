"""Where the types of pgvector come from: another schema, tests of the host without migrations."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from shop_similarity.checks import check_database
from tests.shop_similarity.migrations import database

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def empty(postgres_url, transactional_db):
    with database.empty_database(postgres_url) as connection:
        connection.connect()
        yield connection


def test_extension_in_a_schema_where_nobody_looks_is_said_before_a_table_is_made(empty):
    with empty.cursor() as cursor:
        cursor.execute("CREATE SCHEMA extensions")
        cursor.execute("CREATE EXTENSION vector SCHEMA extensions")
    (found,) = check_database(databases=[database.ALIAS])
    assert found.id == "shop_similarity.E011"
    assert "in the schema extensions" in found.msg
    assert "search_path" in found.hint
    with pytest.raises(ImproperlyConfigured, match="in the schema extensions"):
        call_command("migrate", "shop_similarity", database=database.ALIAS, verbosity=0)
    with empty.cursor() as cursor:
        cursor.execute("SET search_path = public, extensions")
    assert check_database(databases=[database.ALIAS]) == []


def test_host_that_tests_without_migrations_gets_tables(empty, settings):
    settings.MIGRATION_MODULES = {"shop_similarity": None}
    call_command("migrate", "shop_similarity", database=database.ALIAS, run_syncdb=True, verbosity=0)
    assert "shop_similarity_embedding" in empty.introspection.table_names()


def test_postgresql_that_is_too_old_is_said(empty, monkeypatch):
    monkeypatch.setattr(empty, "pg_version", 140011, raising=False)
    (found,) = check_database(databases=[database.ALIAS])
    assert found.id == "shop_similarity.E010"
    assert "PostgreSQL 14" in found.msg and "15 or newer" in found.msg
