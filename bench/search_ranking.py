"""Times what is done to a search's results before a shopper sees them, on made-up clustered vectors.

    python -m bench.search_ranking --photos 20000

Everything happens in a Postgres of its own in a temporary folder; products have two photos each. Prints the median time
of finding eight look-alikes and loading them: by similarity alone, then with diversity and near-copies collapsed, then
with filters, rules and so on. All ways are timed in turns, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from bench.temporary_shop import temporary_shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=40)
    options = parser.parse_args()
    if options.photos < 2_400:
        parser.error("--photos must be 2400 or more: two make a product, and baskets come from the first thousand")
    with temporary_shop():
        run(options.photos, options.queries)


def run(photos: int, queries: int) -> None:
    from django.conf import settings
    from django.db import connection
    from django.test.utils import override_settings

    from catalog.models import Category, Product, ProductPhoto
    from shop_similarity.catalogue import ImageRow
    from shop_similarity.embedding.index import build_index
    from shop_similarity.embedding.outbox import Claim
    from shop_similarity.embedding.writing import PhotoVector, write_embeddings
    from shop_similarity.models import MerchandisingRule, ModelVersion
    from shop_similarity.search import Filters, Query, SearchOptions, find_matches, similar_products, similar_to_several
    from shop_similarity.search.cache import cached_similar_products

    categories = [Category.objects.create(name=str(n), slug=str(n)) for n in range(100)]
    Product.objects.bulk_create(
        [
            Product(name=str(n), slug=str(n), sku=str(n), category=categories[n % 100], price=n % 500, stock=1)
            for n in range(photos // 2)
        ],
        5_000,
    )
    products = list(Product.objects.order_by("pk"))
    ProductPhoto.objects.bulk_create(
        [ProductPhoto(product=product, file=f"{product.pk}-{n}.jpg") for product in products for n in range(2)], 5_000
    )
    version = ModelVersion.objects.create(name="bench", architecture="mildnet", weights_sha256="0", state="active")
    random = np.random.default_rng(0)
    centres = random.standard_normal((max(photos // 100, 10), 4096), dtype=np.float32)
    rows = list(ProductPhoto.objects.order_by("pk").values_list("pk", "product_id", "file"))
    for start in range(0, len(rows), 500):
        part = rows[start : start + 500]
        made = centres[random.integers(len(centres), size=len(part))] + random.standard_normal(
            (len(part), 4096), dtype=np.float32
        )
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        write_embeddings(
            version.pk,
            [
                PhotoVector(Claim(pk, (), 1), ImageRow(pk, product, name), "", f"{pk:064}", vector)
                for (pk, product, name), vector in zip(part, made, strict=True)
            ],
        )
    build_index(version.pk)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")

    everything = Product.objects.filter(is_published=True)
    plain = {"diversity": 0.0, "collapse": False, "rules": False}

    def matches(product: Product) -> list:
        found = find_matches(
            version, Query.of_product(version, product), limit=8, among=everything, exclude=[product.pk]
        )
        return list(everything.filter(pk__in=[match.product_id for match in found]).prefetch_related("photos"))

    def options(**values):
        return lambda product: similar_products(product, version=version, options=SearchOptions(**values))

    narrow = Filters(categories=tuple(category.pk for category in categories[:10]), price_max=400)
    ways = {
        "by similarity alone": matches,
        "ranked, all switched off": options(**plain),
        "ranked": options(),
        "third page": options(offset=16),
        "filtered": options(filters=narrow),
        "basket of five": lambda product: similar_to_several(products[product.pk % 1000 :][:5], version=version),
        "from the cache": lambda product: cached_similar_products(product, version=version),
    }
    asked = [products[i] for i in random.integers(len(products) - 1_100, size=queries)]
    rules = [
        MerchandisingRule(kind="boost", target_category=str(categories[3].pk), boost=0.3),
        MerchandisingRule(kind="hide", target_category=str(categories[4].pk)),
        *(MerchandisingRule(kind="pin", target_product_id=products[-n].pk, position=n) for n in (1, 2)),
    ]
    print(f"{'way':10} {'what':28} {'median ms':>10} {'ratio':>6}")
    for path, sizes in (("codes", (250, 10**6)), ("index", (250, 500))):
        changed = {"EXACT_ROWS": sizes[0], "INDEX_ROWS": sizes[1], "PRICE": "price"}
        with override_settings(SHOP_SIMILARITY={**settings.SHOP_SIMILARITY, **changed}):
            times: dict[str, list[float]] = {}
            for product in asked:
                for name, way in ways.items():
                    way(product)
                    times.setdefault(name, []).append(_seconds(way, product))
                MerchandisingRule.objects.bulk_create(rules)
                times.setdefault("ranked, with four rules", []).append(_seconds(ways["ranked"], product))
                MerchandisingRule.objects.all().delete()
            base = statistics.median(times["by similarity alone"])
            for name, seconds in times.items():
                middle = statistics.median(seconds)
                print(f"{path:10} {name:28} {middle * 1e3:10.1f} {middle / base:6.2f}", flush=True)


def _seconds(way, product) -> float:
    started = time.perf_counter()
    assert len(way(product)) == 8
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
