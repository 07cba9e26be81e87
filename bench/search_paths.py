"""Times searches against what pgvector does by itself, on vectors made up to be like those of real photos.

    python -m bench.search_paths --photos 100000
    python -m bench.search_paths --photos 1000000 --folder FOLDER --json FILE

Everything happens in a Postgres of its own, in a temporary folder or one that stays (a million photos take 13 GB).
Peers, in the same run: the plain exact scan over halfvec (`ORDER BY vector <=> query LIMIT 10`), which is also the
truth that recall is measured by; the same over vector, of 32 bits a number; and two searches in HNSW indexes, the
nearest 200 of which are compared exactly: over codes, as pgvector's documentation has it, and over 512 principal
components in halfvec. Against them: the plugin's statement by each path, the same behind filters that admit a half, a
twentieth and two hundredths, and `similar_products` whole: rules, variants, diversity, the ORM, pages, and from the
cache. Ways are timed in turns, so that a busy machine slows all of them; processor time is told beside.

Then the same by several clients at a time, after a restart that leaves nothing in memory, and what is written and
deleted a second while the index is in place.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.copied_vectors import FULL, SHORT, copy_vectors
from bench.index_writes import writes_and_deletes
from bench.machine import machine
from bench.made_shop import PRICES, make_shop
from bench.search_clients import by_clients
from bench.temporary_shop import make_cold, temporary_shop
from bench.timing import processor_seconds, tails, timed

FILTERS = {"50 %": 0.5, "5 %": 0.05, "0.5 %": 0.005}
K = 10
PAGE = 24
# So many of the nearest are asked of the exact scan, that ten of them pass the narrowest filter.
_DEEP = 20_000
_COLD = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--per-product", type=int, default=1)
    parser.add_argument("--queries", type=int, default=100, help="of fast searches")
    parser.add_argument("--exact-queries", type=int, default=20, help="whose truth is known, for the recall")
    parser.add_argument("--slow-queries", type=int, default=5, help="of searches that take seconds")
    parser.add_argument("--folder", type=Path, help="where the shop stays for the next measurement")
    parser.add_argument("--rebuild", action="store_true", help="build the index of a shop that stays anew, to time it")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--memory", default="512MB", help="Postgres' maintenance_work_mem")
    parser.add_argument("--buffers", default="4GB", help="Postgres' shared_buffers, for index and rows of a million")
    parser.add_argument("--candidates", type=int, help="value of CANDIDATES")
    parser.add_argument("--clients", type=int, default=8, help="at a time, for the second table")
    parser.add_argument("--seconds", type=float, default=10, help="that clients search for")
    parser.add_argument("--writes", type=int, default=1_000, help="rows that are written and deleted at the end")
    parser.add_argument("--most-compared", type=int, default=100_000, help="photos up to which peers copy the vectors")
    options = parser.parse_args()
    servers = {"maintenance_work_mem": options.memory, "shared_buffers": options.buffers}
    with temporary_shop(options.folder, **servers) as folder:
        if options.candidates:
            from django.conf import settings

            settings.SHOP_SIMILARITY = settings.SHOP_SIMILARITY | {"CANDIDATES": options.candidates}
        figures = run(options, folder)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from django.db import connection

    from catalog.models import Product
    from shop_similarity.embedding.index import build_index, drop_index, index_state
    from shop_similarity.models import Embedding
    from shop_similarity.search import Path as SearchPath
    from shop_similarity.search import Query, SearchOptions, find_matches, similar_products
    from shop_similarity.search.cache import cached_similar_products

    photos, per_product, exact_queries = options.photos, options.per_product, options.exact_queries
    # A shop that stays was built and indexed by an earlier measurement.
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    figures: dict[str, Any] = {
        name: known[name] for name in ("index_build_s", "components_index_build_s") if name in known
    }
    figures |= {"photos": photos, "machine": machine(), "shared_buffers": options.buffers}
    version = make_shop(photos, per_product)
    if options.rebuild:
        drop_index(version.pk)
    if index_state(version.pk).state != "ready":
        started = time.perf_counter()
        build_index(version.pk)
        figures["index_build_s"] = round(time.perf_counter() - started, 1)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    with connection.cursor() as cursor:
        # As after hours of searches; what they cost before that is measured at the end.
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
        for relation in (index_state(version.pk).name, Embedding._meta.db_table):
            cursor.execute("SELECT pg_prewarm(%s::regclass)", [relation])
    figures["index_mib"] = round(index_state(version.pk).bytes / 2**20)
    print({name: value for name, value in figures.items() if name != "machine"}, flush=True)

    random = np.random.default_rng(1)
    products = -(-photos // per_product)
    keys = [int(key) for key in 1 + random.choice(products, size=max(options.queries, exact_queries), replace=False)]
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
    copies = photos <= options.most_compared
    if copies:
        components, built = copy_vectors(photos, per_product)
        if built is not None:
            figures["components_index_build_s"] = round(built, 1)
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

    def peer_full(product: Any) -> list:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT product_id FROM {FULL} WHERE product_id <> %s ORDER BY vector <=> %s::vector LIMIT {K}",
                [product.pk, vectors[product.pk]],
            )
            return [key for (key,) in cursor.fetchall()]

    def peer_components(product: Any) -> list:
        from django.db import transaction

        vector = vectors[product.pk]
        short = components.shorten(np.array([json.loads(vector)], np.float32))[0]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL hnsw.ef_search = 200")
            cursor.execute(
                f"SELECT e.product_id FROM (SELECT image_id FROM {SHORT} ORDER BY vector <=> %s::halfvec LIMIT 200) c "
                f"JOIN {table} e ON e.version_id = {version.pk} AND e.image_id = c.image_id "
                f"WHERE e.product_id <> %s ORDER BY e.vector <=> %s::halfvec(4096) LIMIT {K}",
                [str(short.tolist()), product.pk, vector],
            )
            return [key for (key,) in cursor.fetchall()]

    def cached(product: Any) -> list:
        return [found.pk for found in cached_similar_products(product, options=SearchOptions(limit=PAGE))]

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
    fast = {"peer: codes, re-ranked": (peer_codes, None)}
    if copies:
        slow["peer: exact scan, vector"] = (peer_full, None)
        fast["peer: PCA-512, re-ranked"] = (peer_components, None)
    fast |= {
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
    fast["whole, from the cache"] = (cached, None)
    heads = ("p50 ms", "p95 ms", "p99 ms", "cpu p50 ms", "of exact", "recall@10")
    print(f"{'way':26}", *(f"{head:>10}" for head in heads), flush=True)
    figures["ways"] = {}
    base = 0.0
    for ways, some in ((slow, asked[: min(exact_queries, options.slow_queries)]), (fast, asked)):
        times: dict[str, list[float]] = {name: [] for name in ways}
        work: dict[str, list[float]] = {name: [] for name in ways}
        found: dict[str, list[float]] = {name: [] for name in ways}
        for search, _share in ways.values():
            search(some[0])
        for turn, product in enumerate(some):
            # Whoever comes first reads for the others what is not in Postgres' memory yet.
            names = np.roll(list(ways), turn)
            for name, (search, share) in ((name, ways[name]) for name in names):
                if name.endswith("from the cache"):
                    # It is kept for a minute.
                    search(product)
                worked, started = processor_seconds(server), time.perf_counter()
                result = search(product)
                times[name].append(time.perf_counter() - started)
                work[name].append(1e3 * (processor_seconds(server) - worked))
                if product.pk in truth and not name.startswith("whole"):
                    right = _behind(truth[product.pk], products, share)
                    if right:
                        found[name].append(len(set(result[:K]) & set(right)) / len(right))
        for name in ways:
            figure = tails(times[name])
            base = base or figure["p50_ms"]
            recall = statistics.mean(found[name]) if found[name] else None
            figure |= {
                "processor_ms": round(statistics.median(work[name]), 2),
                "of_exact": round(figure["p50_ms"] / base, 5),
                "recall_at_10": recall and round(recall, 4),
            }
            figures["ways"][name] = figure
            columns = [f"{value:10.3f}" for value in figure.values() if value is not None]
            print(f"{name:26} {' '.join(columns)}", flush=True)
    figures["clients"] = {
        what: {
            str(clients): by_clients(clients, keys, options.seconds, limit, whole=what == "whole")
            for clients in (1, options.clients)
        }
        for what, limit in (("statement", K), ("whole", PAGE))
    }
    figures["cold"] = {
        what: tails([timed(partial(search, product)) for product in some])
        for what, search, some in _after_a_restart(statement(), whole(), asked)
    }
    figures["written"] = writes_and_deletes(version, options.writes)
    print({name: figures[name] for name in ("clients", "cold", "written")}, flush=True)
    return figures


def _after_a_restart(
    statement: Callable[[Any], list], whole: Callable[[Any], list], asked: list[Any]
) -> Iterator[tuple[str, Callable[[Any], list], list[Any]]]:
    """Each way with products that nobody has asked with since nothing was in memory."""
    for name, search in (("statement", statement), ("whole", whole)):
        make_cold()
        yield name, search, asked[-_COLD:]


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


if __name__ == "__main__":
    main()
