"""What the tests of plans count is read for their own rows."""

from django.db import connection

from catalog.models import Product
from tests.shop_similarity.factories import make_product
from tests.support.plans import scans, vacuum


def test_rows_that_another_test_took_back_are_not_read(db):
    beside = connection.copy()
    try:
        with beside.cursor() as cursor:
            cursor.execute(
                """BEGIN;
                INSERT INTO catalog_category (name, slug) VALUES ('Lamps', 'taken-back');
                INSERT INTO catalog_product
                    (category_id, name, slug, sku, price, stock, description, is_published, created_at)
                SELECT c.id, 'Lamp', 'taken-back-' || n, n, 1, 1, '', true, now()
                FROM catalog_category c, generate_series(1, 2_000) n WHERE c.slug = 'taken-back';
                ROLLBACK"""
            )
    finally:
        beside.close()
    vacuum()
    make_product()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE; SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
    with scans() as found:
        assert Product.objects.order_by()[:100].count() == 1
    # One of a bitmap, one of the table.
    assert [scan.rows for scan in found] == [1, 1], found
