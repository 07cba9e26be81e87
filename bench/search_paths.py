"""Times the three ways to search against plain pgvector's exact scan, on made-up clustered vectors.

    python bench/search_paths.py --photos 20000

Everything happens in a Postgres of its own in a temporary folder. Prints the median time of a query, its ratio to the
peer (an exact `ORDER BY vector <=> query` over all rows) and recall@10 against it, without a filter and behind filters
that admit a tenth and a hundredth of the products.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from temporary_shop import temporary_shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=20)
    options = parser.parse_args()
    with temporary_shop():
        run(options.photos, options.queries)


def run(photos: int, queries: int) -> None:
    from django.db import connection

    from catalog.models import Category, Product, ProductPhoto
    from shop_similarity.catalogue import ImageRow
    from shop_similarity.embedding.index import build_index, index_state
    from shop_similarity.embedding.outbox import Claim
    from shop_similarity.embedding.writing import PhotoVector, write_embeddings
    from shop_similarity.models import Embedding, ModelVersion
    from shop_similarity.search import Path as SearchPath
    from shop_similarity.search import Query, find_matches

    categories = [Category.objects.create(name=str(n), slug=str(n)) for n in range(100)]
    Product.objects.bulk_create(
        [Product(name=str(n), slug=str(n), sku=str(n), category=categories[n % 100], stock=1) for n in range(photos)],
        5_000,
    )
    products = list(Product.objects.order_by("pk").values_list("pk", flat=True))
    ProductPhoto.objects.bulk_create([ProductPhoto(product_id=pk, file=f"{pk}.jpg") for pk in products], 5_000)
    version = ModelVersion.objects.create(name="bench", architecture="mildnet", weights_sha256="0", state="active")

    random = np.random.default_rng(0)
    centres = random.standard_normal((max(photos // 100, 10), 4096), dtype=np.float32)
    started = time.perf_counter()
    rows = list(ProductPhoto.objects.order_by("pk").values_list("pk", "product_id", "file"))
    for start in range(0, photos, 500):
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
    seconds = time.perf_counter() - started
    print(f"wrote {photos} vectors in {seconds:.1f} s ({photos / seconds:.0f}/s)")
    started = time.perf_counter()
    build_index(version.pk)
    state = index_state(version.pk)
    print(f"built the index in {time.perf_counter() - started:.1f} s, {state.bytes / 2**20:.0f} MiB")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")

    asked = [Product.objects.get(pk=products[i]) for i in random.integers(photos, size=queries)]
    filters = {
        "all": None,
        "a tenth": Product.objects.filter(category__in=categories[:10]),
        "a hundredth": Product.objects.filter(category=categories[0]),
    }
    print(f"{'filter':12} {'way':18} {'median ms':>10} {'of peer':>8} {'recall@10':>10}")
    for name, among in filters.items():
        peer, truth = [], []
        for product in asked:
            vector = Embedding.objects.defer(None).filter(product_id=product.pk).get().vector
            text = str(list(vector))
            started = time.perf_counter()
            found = Embedding.objects.filter(version=version).exclude(product_id=product.pk)
            if among is not None:
                found = found.filter(product_id__in=among.values("pk"))
            found = found.extra(
                select={"distance": "vector <=> %s::halfvec(4096)"}, select_params=[text], order_by=["distance"]
            )
            truth.append([row[0] for row in found.values_list("product_id", "distance")[:10]])
            peer.append(time.perf_counter() - started)
        base = statistics.median(peer)
        print(f"{name:12} {'peer: exact':18} {base * 1e3:10.1f} {1:8.2f} {1:10.3f}")
        for path in (SearchPath.EXACT, SearchPath.CODES, SearchPath.INDEX):
            times, recalls = [], []
            for product, right in zip(asked, truth, strict=True):
                started = time.perf_counter()
                matches = find_matches(
                    version,
                    Query.of_product(version, product),
                    limit=10,
                    among=among,
                    exclude=[product.pk],
                    path=path,
                )
                times.append(time.perf_counter() - started)
                recalls.append(len({match.product_id for match in matches} & set(right)) / len(right))
            middle = statistics.median(times)
            print(
                f"{name:12} {path.value:18} {middle * 1e3:10.1f} {middle / base:8.2f} {statistics.mean(recalls):10.3f}"
            )


if __name__ == "__main__":
    main()
