"""What health checks and metrics ask of the database reads no more in a larger shop."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from catalog.models import ProductPhoto
from shop_similarity.models import Embedding, Heartbeat, ModelVersion, OutboxEntry, RecallSample
from shop_similarity.monitoring import exposition, health, state
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version
from tests.support.plans import scans

pytestmark = pytest.mark.django_db

PHOTOS = 6_000
FEW = 20


@pytest.fixture
def large_shop(vacuumed) -> ModelVersion:
    """Thousands of photos embedded for an active version, as many waiting, failed, to be tried later, claimed."""
    active, candidate = make_version("old"), make_version("new", "candidate")
    make_photos_without_files([make_product(), make_product()], PHOTOS // 2)
    photos = ProductPhoto._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {Embedding._meta.db_table} (version_id, product_id, image_id, file_name, file_mark,
                content_sha256, vector, code, embedded_at)
            SELECT %s, p.product_id, p.id, p.file, '1:1', md5(p.id::text), v.vector,
                binary_quantize(v.vector)::bit(4096), now()
            FROM {photos} p CROSS JOIN (
                SELECT array_agg(n)::halfvec(4096) AS vector FROM generate_series(1, 4096) n
            ) v""",
            [active.pk],
        )
        for version in (active.pk, candidate.pk):
            for priority in OutboxEntry.Priority.values:
                # A quarter of each kind: ready, failed, to be tried later, claimed.
                cursor.execute(
                    f"""INSERT INTO {OutboxEntry._meta.db_table} (version_id, product_id, image_id, priority,
                        created_at, attempts, claimed_by, last_error, file_name, file_mark, failed_at, due_at,
                        leased_until)
                    SELECT %s, product_id, id, %s, now() - id * interval '1 ms', 0, '', '', '', '',
                        CASE id %% 4 WHEN 1 THEN now() END, CASE id %% 4 WHEN 2 THEN now() + interval '1 day' END,
                        CASE id %% 4 WHEN 3 THEN now() + interval '1 minute' END
                    FROM {photos}""",
                    [version, priority],
                )
        cursor.execute("ANALYZE")
    return active


def test_nothing_reads_more_than_is_counted(large_shop, monkeypatch):
    monkeypatch.setattr(state, "MOST", FEW)
    with scans() as found:
        queues = state.queues()
        assert state.elsewhere() == (FEW, FEW)
        state.indexes()
        state.embeddings()
        state.last_recall(large_shop)
        for name in ("database", "queue", "index", "recall"):
            health.check(name)
    assert [(queue.version, queue.is_active, queue.ready, queue.failed) for queue in queues] == [
        ("old", True, FEW, FEW),
        ("new", False, FEW, FEW),
    ]
    assert all(queue.oldest[number] is not None for queue in queues for number in range(3))
    read = [scan for scan in found if scan.table in (OutboxEntry._meta.db_table, Embedding._meta.db_table)]
    assert len(read) >= 12
    # Of each of the two versions.
    assert [scan for scan in read if scan.rows > 2 * FEW] == []


def test_a_scrape_of_the_database_reads_no_embeddings(large_shop, monkeypatch):
    monkeypatch.setattr(state, "MOST", FEW)
    pytest.importorskip("prometheus_client")
    with scans() as found:
        families = list(exposition.DatabaseState().collect())
    assert len(families) >= 10
    assert [scan for scan in found if scan.table == Embedding._meta.db_table] == []
    assert max(scan.rows for scan in found) <= 2 * FEW


def test_the_age_is_that_of_the_first_of_each_priority():
    version = make_version()
    product = make_product()
    (saved, backfill) = make_photos_without_files([product], 2)
    now = timezone.now()
    for photo, priority, age in ((saved, 0, 60), (backfill, 20, 7_200)):
        entry = OutboxEntry.objects.create(version=version, product_id=product.pk, image_id=photo.pk, priority=priority)
        OutboxEntry.objects.filter(pk=entry.pk).update(created_at=now - timedelta(seconds=age))
    (queue,) = state.queues(version.pk)
    assert [round(queue.age(number), -1) for number in range(3)] == [60, 0, 7_200]
    assert state.PRIORITIES == ("saved", "swept", "backfill")
    OutboxEntry.objects.update(leased_until=now + timedelta(minutes=1))
    assert state.queues(version.pk)[0].ready == 0
    assert state.elsewhere() == (0, 2)


def test_workers_are_told_apart_by_host():
    now = timezone.now()
    for name, age in (("pod-a|1|ns", 10), ("pod-a|2|ns", 500), ("pod-ab|1|ns", 20)):
        Heartbeat.objects.create(worker=name, started_at=now, seen_at=now - timedelta(seconds=age))
    assert state.workers().alive == 2
    assert state.workers("pod-a").alive == 1
    assert state.workers("pod-c").alive == 0
    assert round((now - state.workers().seen_at).total_seconds()) == 10


def test_the_last_sample_of_the_recall_counts():
    version, other = make_version(), make_version("other", "candidate")
    assert state.last_recall(version) is None
    now = timezone.now()
    for owner, share, days in ((version, 0.9, 1), (version, 0.8, 0), (other, 0.1, 0)):
        RecallSample.objects.create(
            version=owner, measured_at=now - timedelta(days=days), recall=share, k=10, products=50, path="codes"
        )
    assert state.last_recall(version).recall == 0.8
