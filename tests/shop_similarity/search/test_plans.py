"""What weighs in the ranking is looked up for the products of a list, and not for all that share it."""

from __future__ import annotations

import pytest
from django.db import connection

from catalog.models import Product
from shop_similarity.models import Embedding, MerchandisingRule
from shop_similarity.search import similar_products
from tests.shop_similarity.factories import make_category, make_photos_without_files, make_product, make_version
from tests.support.plans import scans

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("random_page_cost")]

PRODUCTS = 3_000
FEW = 20


@pytest.fixture
def product(settings) -> Product:
    """Among products that have all the category and the price in common; few of them have photos."""
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "ATTRIBUTES": {"kind": "category", "price": "price"},
        "CATEGORY_BOOST": 0,
        "EXACT_ROWS": 0,
        "INDEX_ROWS": 100_000,
    }
    version = make_version()
    shown = [make_product(price=5, stock=1) for _ in range(FEW)]
    category = make_category()
    Product.objects.bulk_create(
        Product(name="Other", slug=f"o{n}", sku=f"o{n}", category=category, price=5, stock=1) for n in range(PRODUCTS)
    )
    photos = make_photos_without_files(shown)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {Embedding._meta.db_table} (version_id, product_id, image_id, file_name, file_mark,
                content_sha256, vector, code, embedded_at)
            SELECT %s, p.product_id, p.id, '', '1:1', md5(p.id::text), v.vector,
                binary_quantize(v.vector)::bit(4096), now()
            FROM {photos[0]._meta.db_table} p CROSS JOIN LATERAL (
                SELECT array_agg(sin(n * p.id))::halfvec(4096) AS vector FROM generate_series(1, 4096) n
            ) v""",
            [version.pk],
        )
        cursor.execute("ANALYZE")
    return shown[0]


@pytest.mark.parametrize("names", [["kind"], ["kind", "price"]])
def test_attributes_that_all_products_share(product, names):
    for name in names:
        MerchandisingRule.objects.create(
            kind=MerchandisingRule.Kind.SHARE, attribute=name, boost=0.2, product_id=product.pk
        )
    with scans() as found:
        assert len(similar_products(product, 8, among=Product.objects.filter(pk__lte=product.pk + FEW))) == 8
    products = [scan for scan in found if scan.table == Product._meta.db_table]
    assert max(scan.rows for scan in products) <= 10 * FEW, products
