"""What a tick asks about an engine beside Postgres reads no more when much is to be told, or has been told."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.utils import timezone

from shop_similarity.embedding.engines import copies, states
from shop_similarity.models import Embedding, EngineChange
from tests.shop_similarity.embedding.engines import in_memory
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version
from tests.support.plans import scans

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("random_page_cost")]

PHOTOS = 3_000
CHANGES = EngineChange._meta.db_table


@pytest.fixture
def version(settings, monkeypatch):
    """Active, with embeddings of which none has been told."""
    engine = f"{in_memory.InMemory.__module__}.InMemory"
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ENGINE": engine}
    monkeypatch.setattr(in_memory, "COPIES", {})
    version = make_version()
    photos = make_photos_without_files([make_product()], PHOTOS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {Embedding._meta.db_table} (version_id, product_id, image_id, file_name, file_mark,
                content_sha256, vector, code, embedded_at)
            SELECT %s, %s, id, '', '1:1', md5(id::text), v.vector, binary_quantize(v.vector)::bit(4096), now()
            FROM unnest(%s::bigint[]) id CROSS JOIN (
                SELECT array_agg(n)::halfvec(4096) AS vector FROM generate_series(1, 4096) n
            ) v""",
            [version.pk, photos[0].product_id, [photo.pk for photo in photos]],
        )
    return version


def note_all(version, times: int = 1, counted: bool = True) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {CHANGES} (version_id, embedding_id) SELECT version_id, id "
            f"FROM {Embedding._meta.db_table}, generate_series(1, %s) ORDER BY id",
            [times],
        )
        if counted:
            cursor.execute("ANALYZE")


def test_a_tick_finds_what_was_noted_by_an_index(version):
    note_all(version)
    with scans() as found:
        assert copies.is_due()
        assert states.trouble() == []
    ours = [scan for scan in found if scan.table == CHANGES]
    # As the table lies, all would be read that was told and waits for VACUUM.
    assert len(ours) == 2 and all(scan.index for scan in ours), ours
    assert ours[0].rows == 1


def test_nobody_counts_all_that_is_to_be_told(version, monkeypatch):
    monkeypatch.setattr("shop_similarity.embedding.magnitudes.COUNTED", 100)
    note_all(version)
    # The row of the copy without the triggers, whose making needs a transaction of its own.
    row = copies.EngineCopy.objects.create(version_id=version.pk, engine=copies.get_settings().engine, name="one")
    left = []
    with scans() as found:
        feeder = copies._Feeder(
            copies.get_engine(), row, "", lambda progress: left.append(progress.left), lambda: len(left) > 1
        )
        feeder.feed()
    assert len(left) == 2 and left[0] == pytest.approx(PHOTOS - 1_000, rel=0.1)
    counting = [scan for scan in found if "count(" in scan.sql.lower()]
    assert counting and max(scan.rows for scan in counting) <= 101, counting


def test_a_batch_is_found_whatever_postgres_takes_for_there(version):
    note_all(version, times=20, counted=False)
    row = copies.EngineCopy.objects.create(
        version_id=version.pk, engine=copies.get_settings().engine, name="one", filled_at=timezone.now()
    )
    copies.get_engine().build(copies.copy_of(row), PHOTOS)
    left = iter([False, False])
    feeder = copies._Feeder(copies.get_engine(), row, "", lambda _: None, lambda: next(left, True))
    with scans() as found:
        feeder._catch_up()
    # Of a table of so few pages, all may be read to strike out the keys of one batch.
    of_batches = [scan for scan in found if scan.table == CHANGES and re.match("SELECT (?!COUNT)", scan.sql)]
    assert of_batches and max(scan.rows for scan in of_batches) <= 1_000, of_batches
    assert EngineChange.objects.count() == 20 * PHOTOS - 2_000
