"""Every migration of the plugin, forward and back, on a filled database."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import F

from shop_similarity.checks import check_database
from tests.shop_similarity.migrations import database

FIRST_RELEASE = "0001_first_release"
BEFORE_IT = [
    "0001_initial",
    "0002_rollout",
    "0003_storefront",
    "0004_run_experiments",
    "0005_event_days",
    "0006_visual_query_mean",
]


@pytest.fixture
def empty(postgres_url, django_db_modify_db_settings, django_db_blocker):
    with django_db_blocker.unblock(), database.empty_database(postgres_url) as connection:
        yield connection


# What a migration empties on purpose: means of photos that rest on fewer shoppers than they have to.
EMPTIED = {"0002_votes": "shop_similarity_visualquerymean"}


def _assert_survived(before: dict, after: dict) -> None:
    """Tables and columns that both states have hold what they held."""
    assert before.keys() & after.keys()
    for table in before.keys() & after.keys():
        for key, columns in before[table].items():
            kept = columns.keys() & after[table][key].keys()
            assert {name: after[table][key][name] for name in kept} == {name: columns[name] for name in kept}, table


def test_rows_survive_the_way_back_to_each_state_and_forward_again(empty):
    names = database.plan()
    states = {}
    for number, name in enumerate(names):
        apps = database.migrate(name)
        # Rows written at this state, beside those of all states before it.
        database.fill(apps, 2 * number)
        states[name] = database.schema()
    assert all(len(table) >= 2 for table in database.rows(apps).values())
    for earlier in reversed(names[:-1]):
        before = database.rows(apps)
        back = database.rows(database.migrate(earlier))
        assert database.schema() == states[earlier]
        _assert_survived(before, back)
        apps = database.migrate(names[-1])
        assert database.schema() == states[names[-1]]
        for name in names[names.index(earlier) + 1 :]:
            back.pop(EMPTIED.get(name), None)
        _assert_survived(back, database.rows(apps))


def test_rules_about_attributes_go_on_the_way_to_a_state_that_knows_none(empty):
    rules = (
        database.migrate("0012_attributes").get_model(database.APP, "MerchandisingRule").objects.using(database.ALIAS)
    )
    rules.create(kind="share", attribute="brand")
    rules.create(kind="hide", product_id="1", target_product_id="2")
    apps = database.migrate("0011_engine_copies")
    (kept,) = apps.get_model(database.APP, "MerchandisingRule").objects.using(database.ALIAS).all()
    assert kept.kind == "hide"


def test_nothing_stays_behind_and_all_comes_again(empty):
    names = database.plan()
    database.fill(database.migrate(names[-1]))
    whole = database.schema()
    database.migrate(None)
    assert database.schema() == []
    apps = database.migrate(names[-1])
    assert database.schema() == whole
    database.fill(apps)


def test_shoppers_photos_stay_out_of_the_log(empty):
    database.migrate(database.plan()[-1])
    assert [row for row in database.schema() if row[0] == "table" and "u" in row[2][1:]] == [
        ("table", "shop_similarity_visualquery", "ru", "")
    ]


def test_the_way_back_leaves_the_extension_to_others(empty):
    with empty.cursor() as cursor:
        cursor.execute("CREATE EXTENSION vector")
        cursor.execute("CREATE TABLE of_another_app (vector vector(3))")
    database.migrate(database.plan()[-1])
    database.migrate(None)
    with empty.cursor() as cursor:
        cursor.execute("INSERT INTO of_another_app VALUES ('[1, 2, 3]')")


def _record(*names: str) -> None:
    recorder = MigrationRecorder(connections[database.ALIAS])
    recorder.migration_qs.filter(app=database.APP).delete()
    for name in names:
        recorder.record_applied(database.APP, name)


def test_a_database_of_before_the_first_release_has_it(empty):
    apps = database.migrate(FIRST_RELEASE)
    database.fill(apps)
    before = database.rows(apps)
    _record(*BEFORE_IT)
    call_command("migrate", database.APP, FIRST_RELEASE, database=database.ALIAS, verbosity=0)
    assert database.rows(apps) == before
    assert (database.APP, FIRST_RELEASE) in MigrationRecorder(empty).applied_migrations()
    assert check_database(databases=[database.ALIAS]) == []


def test_a_database_half_way_to_the_first_release_is_told_so(empty):
    database.migrate(FIRST_RELEASE)
    _record(*BEFORE_IT[:4])
    (found,) = check_database(databases=[database.ALIAS])
    assert found.id == "shop_similarity.E013"
    assert "0005_event_days, 0006_visual_query_mean" in found.msg


def test_a_new_database_is_not(empty):
    assert check_database(databases=[database.ALIAS]) == []


def test_the_rows_of_these_tests_fill_every_column(empty):
    """A column that the tests leave empty would be compared with nothing."""
    apps = database.migrate(database.plan()[-1])
    database.fill(apps)
    empty_columns = {
        f"{model._meta.model_name}.{field.name}"
        for model in database.tables(apps)
        for field in model._meta.concrete_fields
        if not model.objects.using(database.ALIAS).exclude(**{f"{field.name}__isnull": True}).values(x=F(field.name))
    }
    assert empty_columns == {"outboxentry.failed_at", "merchandisingrule.ends_at"}
