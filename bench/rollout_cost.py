"""Times what a roll-out costs the database: counting what a candidate lacks, the switch, the removal of a version.

    python -m bench.rollout_cost --photos 20000

Two versions have a made-up vector of each photo; the candidate lacks the last hundred at first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from bench.temporary_shop import temporary_shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=20_000)
    options = parser.parse_args()
    with temporary_shop():
        run(options.photos)


def run(count: int) -> None:
    from django.db import connection

    from catalog.models import Category, Product, ProductPhoto
    from shop_similarity import rollout
    from shop_similarity.models import Embedding, ModelVersion
    from shop_similarity.rollout import retirement

    category = Category.objects.create(name="Things", slug="things")
    shop = Product.objects.bulk_create(
        (Product(name=f"{n}", slug=f"{n}", sku=f"{n}", category=category) for n in range(count)), batch_size=5_000
    )
    ProductPhoto.objects.bulk_create(
        (ProductPhoto(product=product, file=f"{product.pk}.jpg") for product in shop), batch_size=5_000
    )
    old = ModelVersion.objects.create(name="old", architecture="mildnet", weights_sha256="0", state="active")
    new = ModelVersion.objects.create(name="new", architecture="mildnet", weights_sha256="0")
    with connection.cursor() as cursor:
        for version, left_out in ((old, 0), (new, 100)):
            cursor.execute(
                f"""INSERT INTO {Embedding._meta.db_table} (version_id, product_id, image_id, file_name, file_mark,
                    content_sha256, vector, code, embedded_at)
                SELECT %s, p.product_id, p.id, p.file, '1:1', md5(p.id::text), v.vector,
                    binary_quantize(v.vector)::bit(4096), now()
                FROM {ProductPhoto._meta.db_table} p CROSS JOIN LATERAL (
                    SELECT array_agg(random() - 0.5)::halfvec(4096) AS vector
                    FROM generate_series(1, 4096 + 0 * p.id)
                ) v ORDER BY p.id LIMIT %s""",
                [version.pk, count - left_out],
            )
        cursor.execute("ANALYZE")

    def timed(name: str, action: Callable) -> None:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            result = action()
            times.append(time.perf_counter() - started)
        print(f"{name:44} {sorted(times)[2] * 1e3:9.1f} ms   {result}")

    print(f"{count} photos")
    timed("coverage of a candidate that lacks 100", lambda: rollout.coverage(new).lacking)
    Embedding.objects.filter(version=old, image_id__gt=ProductPhoto.objects.order_by("-pk")[100].pk).delete()
    timed("coverage of a complete candidate", lambda: rollout.coverage(new).lacking)
    started = time.perf_counter()
    rollout.activate(new, force=True)
    print(f"{'activate, counting included':44} {(time.perf_counter() - started) * 1e3:9.1f} ms")
    timed("roll_back", lambda: rollout.roll_back().name)
    rollout.retire(ModelVersion.objects.standby())
    started = time.perf_counter()
    removed = retirement.clear_retired()
    took = time.perf_counter() - started
    print(f"{'removal of a retired version':44} {took * 1e3:9.1f} ms   {removed / took:.0f} embeddings a second")


if __name__ == "__main__":
    main()
