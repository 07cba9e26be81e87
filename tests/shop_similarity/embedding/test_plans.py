"""What is done for every save, every few seconds and for every look of a person reads no more in a larger catalogue."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from catalog.models import ProductPhoto
from shop_similarity.embedding import outbox, planner_statistics
from shop_similarity.embedding.magnitudes import estimate
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry
from shop_similarity.rollout.status import status
from shop_similarity.workers.clock import look_round
from shop_similarity.workers.identity import free_claims_of_the_dead
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.support.plans import never_counted, scans
from tests.vectors import random_vectors

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("random_page_cost")]

ROOT = Path(__file__).resolve().parents[3]
PHOTOS = 3_000
FEW = 60


@pytest.fixture
def photos() -> list[ProductPhoto]:
    """Of two products, embedded for an active version; all wait for another one, to be tried tomorrow."""
    old, new = make_version("old"), make_version("new", "candidate")
    photos = make_photos_without_files([make_product(), make_product()], PHOTOS // 2)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {Embedding._meta.db_table} (version_id, product_id, image_id, file_name, file_mark,
                content_sha256, vector, code, embedded_at)
            SELECT %s, p.product_id, p.id, p.file, '1:1', md5(p.id::text), v.vector,
                binary_quantize(v.vector)::bit(4096), now()
            FROM {ProductPhoto._meta.db_table} p CROSS JOIN (
                SELECT array_agg(n)::halfvec(4096) AS vector FROM generate_series(1, 4096) n
            ) v""",
            [old.pk],
        )
        cursor.execute(
            f"""INSERT INTO {OutboxEntry._meta.db_table} (version_id, product_id, image_id, priority, created_at,
                attempts, claimed_by, last_error, file_name, file_mark, due_at)
            SELECT %s, product_id, id, 20, now(), 1, '', 'The storage is away.', '', '', now() + interval '1 day'
            FROM {ProductPhoto._meta.db_table}""",
            [new.pk],
        )
        cursor.execute("ANALYZE")
    return photos


def test_the_deletion_of_a_photo_looks_up_its_rows_by_whole_keys(photos):
    product = make_product()
    (lonely,) = make_photos_without_files([product])
    with scans() as found:
        photos[7].delete()
        product.delete()
    ours = [scan for scan in found if scan.table in (Embedding._meta.db_table, OutboxEntry._meta.db_table)]
    assert len(ours) >= 6
    # Before, the version was missing, so that Postgres before 18 read a whole index, and an entry's product in none.
    assert all(scan.rows <= 2 for scan in ours), ours
    # An entry by its product: it has few versions.
    by_product = [scan for scan in ours if scan.index == "shop_similarity_outbox_of"]
    assert all("version_id" in scan.condition for scan in ours if scan not in by_product), ours
    assert not OutboxEntry.objects.filter(image_id__in=[photos[7].pk, lonely.pk]).exists()


def test_the_deletion_of_a_product_reads_its_own_entries_where_nothing_was_counted_yet(photos):
    product = make_product()
    make_photos_without_files([product])
    product.save()
    table = OutboxEntry._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {table} (version_id, product_id, image_id, priority, created_at, attempts, claimed_by,
                last_error, file_name, file_mark)
            SELECT version_id, 1_000_000 + n, 1_000_000 + n, 20, now(), 0, '', '', '', ''
            FROM generate_series(1, 100_000) n, (SELECT version_id FROM {table} LIMIT 1) of_one"""
        )
    never_counted(OutboxEntry)
    with scans() as found:
        product.delete()
    ours = [scan for scan in found if scan.table == table]
    # By product and version two indexes were read, one of them for all that waits.
    assert ours and all(scan.rows <= 2 for scan in ours), ours


@pytest.mark.parametrize("waits", ["for now", "for later"])
def test_a_save_looks_up_its_own_rows_among_all_that_waits_where_nothing_did_when_it_was_counted(photos, waits):
    product = make_product()
    own = make_photos_without_files([product], 5)
    # What is embedded as it is has to be looked for among what waits.
    store_vectors(ModelVersion.objects.get(name="old"), own, random_vectors(5))
    if waits == "for now":
        OutboxEntry.objects.update(due_at=None)
    table = OutboxEntry._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE waiting AS SELECT * FROM {table}; DELETE FROM {table}; ANALYZE {table}; "
            f"INSERT INTO {table} SELECT * FROM waiting; DROP TABLE waiting"
        )
    for _ in range(2):
        for saved in (product, own[0]):
            with scans() as found:
                saved.save()
            for searched in (Embedding._meta.db_table, table):
                ours = [scan for scan in found if scan.table == searched]
                # Each of two versions looks for each of five photos, of embeddings among those of the product. By the
                # version alone each look read all that waits.
                assert ours and max(scan.rows for scan in ours) <= 2 * len(own) * 8, ours
    # The new version lacks all five; the old one is to look at the file that was saved, and once is enough.
    queued = OutboxEntry.objects.filter(product_id=product.pk).order_by("version__name")
    assert list(queued.values_list("version__name", flat=True)) == ["new"] * 7 + ["old"]


def test_a_save_of_a_product_of_many_photos_reads_each_once_where_few_wait():
    make_version("old")
    product = make_product()
    # What waits of 500 lies in six pages: Postgres reads them all for each photo, by the costs of a server as it comes.
    own = make_photos_without_files([product], 1_000)
    with connection.cursor() as cursor:
        # Nothing waits when Postgres counts, as in a shop that is new.
        cursor.execute("ANALYZE")
    product.save()
    assert OutboxEntry.objects.filter(product_id=product.pk).count() == len(own)
    with scans() as found:
        product.save()
    ours = [scan for scan in found if scan.table == OutboxEntry._meta.db_table]
    # By an index that began with the version too, and was a level lower, each photo read what waits of all.
    assert ours and sum(scan.rows for scan in ours) <= 2 * len(own), ours


def test_a_version_that_postgres_has_not_heard_of_is_counted(photos):
    new = ModelVersion.objects.get(name="new")
    rows = Embedding.objects.filter(version=new)
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {OutboxEntry._meta.db_table}")
        cursor.execute(
            f"""INSERT INTO {Embedding._meta.db_table} (version_id, product_id, image_id, file_name, file_mark,
                content_sha256, vector, code, embedded_at)
            SELECT %s, product_id, image_id, file_name, file_mark, content_sha256, vector, code, embedded_at
            FROM {Embedding._meta.db_table}""",
            [new.pk],
        )
    some = [photo.pk for photo in photos[::200]]

    def read() -> int:
        with scans() as found:
            assert rows.filter(image_id__in=some).count() == len(some)
        return max(scan.rows for scan in found)

    assert estimate(rows.values("pk")) < 10 and read() == PHOTOS, "as until autovacuum comes by"
    planner_statistics.bring_up_to_date(new.pk)
    assert estimate(rows.values("pk")) == pytest.approx(PHOTOS, rel=0.1)
    assert read() == len(some)
    with CaptureQueriesContext(connection) as sent:
        planner_statistics.bring_up_to_date(new.pk)
    assert not [query["sql"] for query in sent if "ANALYZE (" in query["sql"]]


def test_a_tick_reads_nothing_of_what_waits_for_a_later_try(photos):
    with scans() as found:
        look_round(lambda: pytest.fail("nothing is due"), lambda _job: None)
        assert outbox.versions_with_work() == []
        assert outbox.claim(ModelVersion.objects.get(name="new").pk, 16, "w") == []
        free_claims_of_the_dead()
        outbox.waiting()
    read = [scan for scan in found if scan.table == OutboxEntry._meta.db_table and scan.rows > FEW]
    # What waits for later is like all the others of its kind: a sample of it is looked at for the dashboard alone.
    assert [scan for scan in read if "due_at" not in scan.sql or "LIMIT" not in scan.sql] == []
    assert max((scan.rows for scan in read), default=0) <= outbox._SAMPLE


def test_what_has_waited_long_enough_is_found_among_much_that_has_not(photos):
    version = ModelVersion.objects.get(name="new")
    now = timezone.now()
    OutboxEntry.objects.filter(image_id=photos[9].pk).update(due_at=now - timedelta(seconds=1))
    OutboxEntry.objects.filter(image_id=photos[5].pk).update(
        due_at=None, leased_until=now - timedelta(seconds=1), claimed_by="gone", last_error=""
    )
    assert outbox.has_due() and outbox.has_due(version.pk)
    with scans() as found:
        assert outbox.versions_with_work() == [version.pk]
        claims = [*outbox.claim(version.pk, 16, "w"), *outbox.claim(version.pk, 16, "w")]
    assert [(claim.image_id, claim.attempts) for claim in claims] == [(photos[9].pk, 2), (photos[5].pk, 2)]
    assert max(scan.rows for scan in found if scan.table == OutboxEntry._meta.db_table) <= FEW


def test_large_numbers_are_estimates_that_say_so(photos, monkeypatch, admin_client, capsys):
    for module in (
        "embedding.magnitudes",
        "embedding.coverage",
        "embedding.outbox",
        "rollout.status",
        "admin.dashboard",
    ):
        monkeypatch.setattr(f"shop_similarity.{module}.COUNTED", 100)
    with scans() as found:
        told = status()
    assert told["is_about"]
    assert told["images"] == pytest.approx(PHOTOS, rel=0.05) and told["images"].is_about
    assert told["embedded"] == pytest.approx(PHOTOS, rel=0.05)
    (candidate,) = [row for row in told["versions"] if row["name"] == "new"]
    assert candidate["pending"] == pytest.approx(PHOTOS, rel=0.05) and candidate["pending"].is_about
    assert (candidate["failed"], candidate["embedded"]) == (0, 0)
    assert told["products"] == 2, "what is few is counted"
    # Products are few here, and have all of the photos.
    photos_of_the_first = [scan for scan in found if "shop_similarity_product" in scan.sql and " IN (" in scan.sql]
    others = [scan for scan in found if scan not in photos_of_the_first]
    assert others and not [scan for scan in others if scan.rows > PHOTOS // 5]
    page = admin_client.get(reverse("admin:shop_similarity_dashboard")).content.decode()
    assert "about 3,000 of about 3,000 photos embedded for old" in page


def test_exact_where_they_are_few(photos):
    told = status()
    assert not told["is_about"]
    assert (told["images"], told["embedded"], told["products"]) == (PHOTOS, PHOTOS, 2)
    assert (told["products_with_images"], told["versions"][0]["pending"] + told["versions"][1]["pending"]) == (
        2,
        PHOTOS,
    )


def test_what_an_autoscaler_asks_goes_by_indexes_and_stops_at_a_bound(photos):
    (query,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(), re.DOTALL)
    OutboxEntry.objects.filter(pk__in=list(OutboxEntry.objects.values_list("pk", flat=True)[:40])).update(due_at=None)
    taken = outbox.claim(ModelVersion.objects.get(name="new").pk, 16, "w")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        # Of a table as small as this one all may be read as quickly, where pages cost what they cost by default.
        cursor.execute("SET LOCAL random_page_cost = 1.1")
        cursor.execute(query)
        assert cursor.fetchone() == (40,) and len(taken) == 16
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
        plan = json.dumps(cursor.fetchone()[0])
    assert "Seq Scan" not in plan
    assert "shop_similarity_outbox_ready" in plan and "shop_similarity_outbox_leased" in plan
    assert plan.count('"Node Type": "Limit"') == 2
    manifest = ROOT / "deploy" / "kubernetes" / "keda.yaml"
    if manifest.exists():
        assert " ".join(query.split()) in " ".join(manifest.read_text().split())
