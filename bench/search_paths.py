"""Times searches against what pgvector does by itself, on vectors made up to be like those of real photos.

    python bench/search_paths.py --photos 100000
    python bench/search_paths.py --photos 1000000 --folder FOLDER --json FILE

Everything happens in a Postgres of its own, in a temporary folder or one that stays (a million photos take 13 GB).
Peers, in the same run: the plain exact scan over halfvec (`ORDER BY vector <=> query LIMIT 10`), which is also the
truth that recall is measured by, and the search of pgvector's documentation over codes in an HNSW index, the nearest
200 of which are compared exactly. Against them: the plugin's statement by each path, the same behind filters that admit
a half, a twentieth and two hundredths, and `similar_products` whole: rules, variants, diversity, the ORM, pages. Ways
are timed in turns, so that a busy machine slows all of them; processor time is told beside.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made_shop import PRICES, make_shop
from temporary_shop import temporary_shop

FILTERS = {"50 %": 0.5, "5 %": 0.05, "0.5 %": 0.005}
K = 10
PAGE = 24
# So many of the nearest are asked of the exact scan, that ten of them pass the narrowest filter.
_DEEP = 20_000
# Searches that take seconds each are timed so often.
_SLOW = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--per-product", type=int, default=1)
    parser.add_argument("--queries", type=int, default=100, help="of fast searches")
    parser.add_argument("--exact-queries", type=int, default=20, help="whose truth is known, for the recall")
    parser.add_argument("--folder", type=Path, help="where the shop stays for the next measurement")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--memory", default="512MB", help="Postgres' maintenance_work_mem")
    parser.add_argument("--candidates", type=int, help="value of CANDIDATES")
    options = parser.parse_args()
    with temporary_shop(options.folder, maintenance_work_mem=options.memory) as folder:
        if options.candidates:
            from django.conf import settings

            settings.SHOP_SIMILARITY = settings.SHOP_SIMILARITY | {"CANDIDATES": options.candidates}
        figures = run(options.photos, options.per_product, options.queries, options.exact_queries, folder)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")


def run(photos: int, per_product: int, queries: int, exact_queries: int, folder: Path) -> dict[str, Any]:
    from django.db import connection

    from catalog.models import Product
    from shop_similarity.embedding.index import build_index, index_state
    from shop_similarity.models import Embedding
    from shop_similarity.search import Path as SearchPath
    from shop_similarity.search import Query, SearchOptions, find_matches, similar_products

    figures: dict[str, Any] = {"photos": photos, "machine": _machine()}
    version = make_shop(photos, per_product)
    if index_state(version.pk).state != "ready":
        started = time.perf_counter()
        build_index(version.pk)
        figures["index_build_s"] = round(time.perf_counter() - started, 1)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    figures["index_mib"] = round(index_state(version.pk).bytes / 2**20)
    print({name: value for name, value in figures.items() if name != "machine"}, flush=True)

    random = np.random.default_rng(1)
    products = -(-photos // per_product)
    keys = [int(key) for key in 1 + random.choice(products, size=max(queries, exact_queries), replace=False)]
    asked = [Product.objects.get(pk=key) for key in keys]
    table = Embedding._meta.db_table
    one_photo = (
        f"SELECT vector FROM {table} WHERE version_id = {version.pk} AND product_id = %s ORDER BY image_id LIMIT 1"
    )
    exact = (
        f"SELECT product_id FROM {table} WHERE version_id = {version.pk} AND product_id <> %s "
        f"ORDER BY vector <=> %s::halfvec(4096) LIMIT {K}"
    )
    reranked = (
        f"SELECT product_id FROM (SELECT product_id, vector FROM {table} WHERE version_id = {version.pk} "
        "ORDER BY code <~> binary_quantize(%s::halfvec(4096))::bit(4096) LIMIT 200) c "
        f"WHERE product_id <> %s ORDER BY vector <=> %s::halfvec(4096) LIMIT {K}"
    )

    def vector_of(key: int) -> str:
        with connection.cursor() as cursor:
            cursor.execute(one_photo, [key])
            (vector,) = cursor.fetchone()
        return vector if isinstance(vector, str) else vector.to_text()

    vectors = {key: vector_of(key) for key in keys}
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (server,) = cursor.fetchone()
    truth = _truth(folder / f"truth-{photos}.json", keys[:exact_queries], vectors, table, version.pk)

    def peer_exact(product: Any) -> list:
        with connection.cursor() as cursor:
            cursor.execute(exact, [product.pk, vectors[product.pk]])
            return [key for (key,) in cursor.fetchall()]

    def peer_codes(product: Any) -> list:
        from django.db import transaction

        vector = vectors[product.pk]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL hnsw.ef_search = 200")
            cursor.execute(reranked, [vector, product.pk, vector])
            return [key for (key,) in cursor.fetchall()]

    def statement(path: SearchPath | None = None, share: float | None = None) -> Callable[[Any], list]:
        def search(product: Any) -> list:
            among = None if share is None else Product.objects.filter(price__lt=PRICES * share)
            # One photo asks, as with the peers.
            query = Query.of_product(version, product, photos=1)
            found = find_matches(version, query, limit=K, among=among, exclude=[product.pk], path=path)
            return [match.product_id for match in found]

        return search

    def whole(share: float | None = None, page: int = 1, **values: Any) -> Callable[[Any], list]:
        def search(product: Any) -> list:
            among = None if share is None else Product.objects.filter(is_published=True, price__lt=PRICES * share)
            options = SearchOptions(limit=PAGE, offset=(page - 1) * PAGE, **values)
            return [found.pk for found in similar_products(product, among=among, version=version, options=options)]

        return search

    slow = {
        "peer: exact scan": (peer_exact, None),
        "statement, exact": (statement(SearchPath.EXACT), None),
        "statement, codes": (statement(SearchPath.CODES), None),
    }
    fast = {
        "peer: codes, re-ranked": (peer_codes, None),
        "statement, index": (statement(SearchPath.INDEX), None),
        "statement": (statement(), None),
    }
    for name, share in FILTERS.items():
        fast[f"statement, {name}"] = (statement(share=share), share)
    fast["whole, page 1"] = (whole(), None)
    fast["whole, page 2"] = (whole(page=2), None)
    fast["whole, page 10"] = (whole(page=10), None)
    for name, share in FILTERS.items():
        fast[f"whole, {name}"] = (whole(share), None)
    heads = ("p50 ms", "p95 ms", "p99 ms", "cpu p50 ms", "of exact", "recall@10")
    print(f"{'way':26}", *(f"{head:>10}" for head in heads), flush=True)
    figures["ways"] = {}
    base = 0.0
    for ways, some in ((slow, asked[: min(exact_queries, _SLOW)]), (fast, asked)):
        times: dict[str, list[float]] = {name: [] for name in ways}
        work: dict[str, list[float]] = {name: [] for name in ways}
        found: dict[str, list[float]] = {name: [] for name in ways}
        for search, _share in ways.values():
            search(some[0])
        for turn, product in enumerate(some):
            # Whoever comes first reads for the others what is not in Postgres' memory yet.
            names = np.roll(list(ways), turn)
            for name, (search, share) in ((name, ways[name]) for name in names):
                worked, started = _worked_ms(server), time.perf_counter()
                result = search(product)
                times[name].append(1e3 * (time.perf_counter() - started))
                work[name].append(_worked_ms(server) - worked)
                if product.pk in truth and not name.startswith("whole"):
                    right = _behind(truth[product.pk], products, share)
                    if right:
                        found[name].append(len(set(result[:K]) & set(right)) / len(right))
        for name in ways:
            middle, high, highest = np.percentile(times[name], (50, 95, 99))
            base = base or middle
            recall = statistics.mean(found[name]) if found[name] else None
            figures["ways"][name] = {
                "p50_ms": round(middle, 2),
                "p95_ms": round(high, 2),
                "p99_ms": round(highest, 2),
                "processor_ms": round(statistics.median(work[name]), 2),
                "of_exact": round(middle / base, 4),
                "recall_at_10": recall and round(recall, 4),
            }
            print(
                f"{name:26} {middle:10.1f} {high:10.1f} {highest:10.1f} {statistics.median(work[name]):10.1f} "
                f"{middle / base:10.3f} "
                f"{'' if recall is None else f'{recall:10.3f}'}",
                flush=True,
            )
    return figures


def _worked_ms(server: int) -> float:
    """Processor time of this process and of the server's that answers it, which a busy machine does not lengthen.

    Without that of processes that the server starts to scan together.
    """
    return 1e3 * time.process_time() + int(Path(f"/proc/{server}/schedstat").read_text().split()[0]) / 1e6


def _truth(file: Path, keys: list[int], vectors: dict[int, str], table: str, version: int) -> dict[int, list[int]]:
    """The nearest products of each, exactly; kept beside a shop that stays, for at a million they take minutes."""
    from django.db import connection

    known = json.loads(file.read_text()) if file.exists() else {}
    for key in keys:
        if str(key) not in known:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT product_id FROM {table} WHERE version_id = {version} AND product_id <> %s "
                    f"ORDER BY vector <=> %s::halfvec(4096) LIMIT {_DEEP}",
                    [key, vectors[key]],
                )
                # A product counts where its most similar photo stands.
                known[str(key)] = list(dict.fromkeys(key for (key,) in cursor.fetchall()))
    file.write_text(json.dumps(known))
    return {key: known[str(key)] for key in keys}


def _behind(nearest: list[int], products: int, share: float | None) -> list[int]:
    """The first ten whose price is below the share, by the same formula as in the table."""
    if share is not None:
        nearest = [key for key in nearest if round(key * 7_368_787 % products * PRICES / products, 2) < PRICES * share]
    return nearest[:K]


def _machine() -> dict[str, Any]:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": model, "cores": os.cpu_count(), "memory_gib": round(memory / 2**30)}


if __name__ == "__main__":
    main()
