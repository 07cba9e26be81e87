"""What an engine beside Postgres costs and finds, against pgvector in the same run, on the same made vectors.

    python -m bench.engines --photos 100000 --json FILE
    python -m bench.engines --photos 1000000 --folder FOLDER --uri http://milvus:19530 --json FILE

Postgres is one of its own, in a temporary folder or one that stays (a million photos take 13 GB). Milvus is the one at
`--uri`, or one is started from the package `milvus`. Searches go to both in turns, so that a busy machine slows both;
recall is measured by the plain exact scan.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import machine
from bench.made_shop import PRICES, make_shop
from bench.search_paths import FILTERS, PAGE, K, _behind, _truth
from bench.temporary_shop import temporary_shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--exact-queries", type=int, default=10, help="whose truth is known, for the recall")
    parser.add_argument("--folder", type=Path, help="where the shop stays for the next measurement")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--memory", default="512MB", help="Postgres' maintenance_work_mem")
    parser.add_argument("--uri", help="address of a Milvus server; by default one is started")
    parser.add_argument("--index", default="BIN_IVF_FLAT", help="BIN_IVF_FLAT or BIN_FLAT")
    options = parser.parse_args()
    with temporary_shop(options.folder, maintenance_work_mem=options.memory) as folder:
        server = None
        if options.uri is None:
            from tests.support.milvus import MilvusProcess

            server = MilvusProcess(Path(tempfile.mkdtemp(prefix="milvus-", dir=folder)))
            server.start()
        try:
            figures = run(options, server.uri if server else options.uri, folder, server)
        finally:
            if server is not None:
                server.stop()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def run(options: argparse.Namespace, uri: str, folder: Path, server: Any) -> dict[str, Any]:
    from django.conf import settings
    from django.db import connection

    from catalog.models import Product
    from shop_similarity.conf import get_settings
    from shop_similarity.embedding.engines import copies, get_engine
    from shop_similarity.embedding.index import build_index, index_state
    from shop_similarity.models import Embedding
    from shop_similarity.search import Query, SearchOptions, find_matches, similar_products

    photos = options.photos
    engines = {
        "pgvector": {"ENGINE": "pgvector", "ENGINE_OPTIONS": None},
        "milvus": {"ENGINE": "milvus", "ENGINE_OPTIONS": {"uri": uri, "index": options.index, "timeout": 30}},
    }
    ours = settings.SHOP_SIMILARITY

    def choose(engine: str) -> None:
        settings.SHOP_SIMILARITY = ours | engines[engine]
        get_settings.cache_clear()

    figures: dict[str, Any] = {"photos": photos, "machine": machine(), "index": options.index}
    version = make_shop(photos)
    choose("pgvector")
    made: dict[str, dict[str, Any]] = {"pgvector": {}, "milvus": {}}
    if index_state(version.pk).state != "ready":
        started = time.perf_counter()
        build_index(version.pk)
        made["pgvector"]["built_s"] = round(time.perf_counter() - started, 1)
    made["pgvector"]["index_mib"] = round(index_state(version.pk).bytes / 2**20)
    choose("milvus")
    started = time.perf_counter()
    told = copies.feed()
    made["milvus"]["built_s"] = round(time.perf_counter() - started, 1)
    made["milvus"]["photos_per_s"] = round(told / (time.perf_counter() - started))
    _wait_for_index(get_engine(), copies.copy_of(copies.wanted_copy(version.pk)))
    made["milvus"]["indexed_s"] = round(time.perf_counter() - started, 1)
    # A thousand photos that change: told in a batch.
    keys = list(Embedding.objects.filter(version=version).values_list("pk", flat=True)[:1_000])
    Embedding.objects.filter(pk__in=keys).update(file_mark="2:2")
    started = time.perf_counter()
    copies.feed()
    made["milvus"]["caught_up_ms_of_1000"] = round(1e3 * (time.perf_counter() - started))
    if server is not None:
        made["milvus"]["memory_mib"] = server.memory_mib()
        made["milvus"]["folder_mib"] = server.folder_mib()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    print(made, flush=True)

    random = np.random.default_rng(1)
    asked_keys = [int(key) for key in 1 + random.choice(photos, size=options.queries, replace=False)]
    asked = [Product.objects.get(pk=key) for key in asked_keys]
    table = Embedding._meta.db_table
    vectors = {}
    with connection.cursor() as cursor:
        for key in asked_keys[: options.exact_queries]:
            cursor.execute(
                f"SELECT vector::text FROM {table} WHERE version_id = %s AND product_id = %s", [version.pk, key]
            )
            vectors[key] = cursor.fetchone()[0]
    truth = _truth(folder / f"truth-{photos}.json", list(vectors), vectors, table, version.pk)

    def statement(share: float | None) -> Callable[[Any], list]:
        def search(product: Any) -> list:
            among = None if share is None else Product.objects.filter(price__lt=PRICES * share)
            query = Query.of_product(version, product, photos=1)
            found = find_matches(version, query, limit=K, among=among, exclude=[product.pk])
            return [match.product_id for match in found]

        return search

    def whole(product: Any) -> list:
        found = similar_products(product, version=version, options=SearchOptions(limit=PAGE))
        return [found.pk for found in found]

    ways: dict[str, tuple[Callable[[Any], list], float | None]] = {"statement": (statement(None), None)}
    ways |= {f"statement, {name}": (statement(share), share) for name, share in FILTERS.items()}
    ways["whole, page 1"] = (whole, None)
    figures["engines"] = made
    print(f"{'way':20} {'engine':10} {'p50 ms':>8} {'p95 ms':>8} {'recall@10':>10}", flush=True)
    for way, (search, share) in ways.items():
        times: dict[str, list[float]] = {engine: [] for engine in engines}
        recalls: dict[str, list[float]] = {engine: [] for engine in engines}
        for engine in engines:
            choose(engine)
            search(asked[0])
        for turn, product in enumerate(asked):
            for engine in np.roll(list(engines), turn):
                choose(engine)
                started = time.perf_counter()
                found = search(product)
                times[engine].append(1e3 * (time.perf_counter() - started))
                if way.startswith("statement") and product.pk in truth:
                    right = _behind(truth[product.pk], photos, share)
                    recalls[engine].append(len(set(found) & set(right)) / max(len(right), 1))
        for engine in engines:
            p50, p95 = np.percentile(times[engine], (50, 95))
            recall = float(np.mean(recalls[engine])) if recalls[engine] else None
            made[engine].setdefault("ways", {})[way] = {
                "p50_ms": round(p50, 2),
                "p95_ms": round(p95, 2),
                "recall_at_10": recall and round(recall, 4),
            }
            print(
                f"{way:20} {engine:10} {p50:8.1f} {p95:8.1f} {recall if recall is None else round(recall, 3)!s:>10}",
                flush=True,
            )
    for row in copies.EngineCopy.objects.all():
        choose("milvus")
        get_engine().drop(copies.copy_of(row))
    choose("pgvector")
    copies.feed()
    figures["load"] = [round(value, 1) for value in os.getloadavg()]
    return figures


def _wait_for_index(engine: Any, copy: Any) -> None:
    """Milvus makes the index of what was flushed after it has answered."""
    while True:
        described = engine._ask("describe_index", copy.name, "code") or {}
        if not described.get("pending_index_rows") and described.get("state", "Finished") == "Finished":
            return
        time.sleep(0.5)


if __name__ == "__main__":
    main()
