"""A page of the feed reads no further than it needs."""

from __future__ import annotations

import pytest
from django.db import connection

from catalog.models import Product
from shop_similarity.search import SearchOptions
from shop_similarity.storefront.feed import FeedOptions, feed_keys
from tests.shop_similarity.factories import make_category, make_version
from tests.support.plans import scans

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("random_page_cost")]

PRODUCTS = 3_000


@pytest.mark.parametrize("sold_out", [1, 30])
def test_the_next_products_that_are_sold_out(sold_out, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": "stock"}
    version, category = make_version(), make_category()
    Product.objects.bulk_create(
        Product(name="Thing", slug=f"p{n}", sku=f"p{n}", category=category, stock=n % sold_out) for n in range(PRODUCTS)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    options = FeedOptions(SearchOptions(limit=8), alternatives=True)
    with scans() as found:
        keys = feed_keys(options, version, size=20)
    assert keys == list(Product.objects.filter(stock=0).order_by("pk").values_list("pk", flat=True)[:20])
    # Those that are to be had were made into a table of their own first.
    assert [scan.table for scan in found] == [Product._meta.db_table]
    assert found[0].rows <= 20 * sold_out
