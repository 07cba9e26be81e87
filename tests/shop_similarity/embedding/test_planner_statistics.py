"""Postgres counts a version that it has not heard of, however short the role's time limits are."""

from __future__ import annotations

import pytest
from django.db import connection

from shop_similarity.embedding import planner_statistics
from shop_similarity.embedding.magnitudes import estimate
from shop_similarity.models import OutboxEntry
from tests.shop_similarity.factories import make_version
from tests.support.plans import never_counted


@pytest.mark.django_db(transaction=True)
def test_a_role_with_a_short_time_limit_counts_to_the_end():
    old, new = make_version("old"), make_version("new", state="candidate")

    def queue(version):
        OutboxEntry.objects.bulk_create(
            OutboxEntry(version=version, product_id=number, image_id=number) for number in range(1_100)
        )

    queue(old)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {OutboxEntry._meta.db_table}")
    queue(new)
    waiting = OutboxEntry.objects.filter(version=new).order_by().values("pk")
    assert estimate(waiting) < 100
    try:
        with connection.cursor() as cursor:
            # A pause at each page, so that counting takes longer than a statement may.
            cursor.execute("SET vacuum_cost_delay = '20ms'; SET vacuum_cost_limit = 1; SET statement_timeout = '400ms'")
        planner_statistics.bring_up_to_date(new.pk)
    finally:
        connection.close()
    assert estimate(waiting) == pytest.approx(1_100, rel=0.1)


@pytest.mark.django_db
def test_a_table_that_was_never_counted_is():
    version = make_version()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {OutboxEntry._meta.db_table} (version_id, product_id, image_id, priority, created_at,
                attempts, claimed_by, last_error, file_name, file_mark)
            SELECT %s, n, n, 20, now(), 0, '', '', '', '' FROM generate_series(1, 300_000) n""",
            [version.pk],
        )
    never_counted(OutboxEntry)
    waiting = OutboxEntry.objects.filter(version=version).order_by().values("pk")
    # Half a percent of what its pages may hold, which is more than hardly anything.
    assert 100 < estimate(waiting) < 2_000
    planner_statistics.bring_up_to_date(version.pk)
    assert estimate(waiting) == pytest.approx(300_000, rel=0.1)
