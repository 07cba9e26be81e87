"""Would a second stage pay: a short form of each vector, between the codes that name candidates and exact comparison?

    python -m bench.second_stage --photos 100000 --folder FOLDER --json FILE

Re-ranking reads 8 KiB for each candidate, which is the wall where the vectors do not fit into memory. Here codes name
200 candidates, a form of 512 to 1,024 bytes chooses the best of them, and these alone are compared exactly; the peer
takes the best by their codes. The forms: 512 principal components in half precision (1,024 bytes) or in 8 bits (512),
and each of the 4096 numbers in 2 bits (1,024), by the quartiles of a Gaussian, which a randomly turned vector's numbers
follow.

Recall is that of numpy over the same vectors. Times are of Postgres, which reads past the operating system's cache
(`debug_io_direct`) and whose own cache holds codes, index and a tenth of the vectors: each query is another product's.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import machine
from bench.made_vectors import DIMENSIONS, made_vectors
from bench.principal_components import PrincipalComponents
from bench.temporary_shop import temporary_shop
from bench.timing import timed

K = 10
CANDIDATES = 200
COMPARED = (10, 15, 20, 30, 50, 100, 200)
# Half of a Gaussian's numbers lie nearer to 0 than this; where the outer and the inner ones lie in the mean.
_QUARTILE, _INNER, _OUTER = 0.6745, 0.3248, 1.2711
_NO_STAGE, _TIMED_STAGE = "none: best by code", "PCA-512, half precision"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the shop stays for the next measurement")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    options = parser.parse_args()
    # Per photo: row with its code, index, a tenth of the vector; and what Postgres needs for itself.
    buffers = 16 + options.photos * (700 + 850 + 820) // 2**20
    described = machine()
    settings = {"debug_io_direct": "data", "shared_buffers": f"{buffers}MB"}
    rows = recalls(options.photos, options.queries)
    with temporary_shop(options.folder, **settings):
        times(rows, options.photos, options.queries)
    for row in rows:
        print(row)
    figures = {"machine": described, "photos": options.photos, "buffers_mib": buffers, "rows": rows}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def recalls(photos: int, queries: int) -> list[dict[str, Any]]:
    """A row for each form and number of vectors that are compared exactly."""
    vectors = np.empty((photos, DIMENSIONS), np.float16)
    first = 0
    for block in made_vectors(photos):
        vectors[first : first + len(block)] = block
        first += len(block)
    components = PrincipalComponents.of(vectors[:4096].astype(np.float32))
    codes = np.packbits(vectors > 0, axis=1).view(np.uint64)
    asked = _asked(photos, queries)
    found: dict[tuple[str, int], list[float]] = {}
    for place in asked:
        query = vectors[place].astype(np.float32)
        near = _nearest(np.bitwise_count(codes ^ codes[place]).sum(axis=1, dtype=np.int32), CANDIDATES, without=place)
        # The ten nearest of all are among so many by code at this size; see the table of real and made vectors.
        wide = _nearest(np.bitwise_count(codes ^ codes[place]).sum(axis=1, dtype=np.int32), 4_000, without=place)
        truth = set(wide[np.argsort(-(vectors[wide].astype(np.float32) @ query))][:K].tolist())
        rows = vectors[near].astype(np.float32)
        cosines = rows @ query
        for name, guess in _guesses(components, query, rows).items():
            order = np.arange(len(near)) if guess is None else np.argsort(-guess, kind="stable")
            for compared in COMPARED:
                some = order[:compared]
                best = near[some[np.argsort(-cosines[some])][:K]]
                found.setdefault((name, compared), []).append(len(truth & set(best.tolist())) / K)
    return [
        {
            "stage": name,
            "candidates": CANDIDATES,
            "compared": compared,
            "recall_at_10": round(statistics.mean(values), 4),
        }
        for (name, compared), values in found.items()
    ]


def _asked(photos: int, queries: int) -> list[int]:
    return np.random.default_rng(3).choice(photos, size=min(queries, photos), replace=False).tolist()


def _nearest(distances: np.ndarray, count: int, without: int) -> np.ndarray:
    distances[without] = np.iinfo(distances.dtype).max
    count = min(count, len(distances) - 1)
    some = np.argpartition(distances, count - 1)[:count]
    return some[np.argsort(distances[some], kind="stable")]


def _guesses(components: PrincipalComponents, query: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray | None]:
    """By the name of each form, how near it takes the (n, d) rows for; None where it takes the codes' word."""
    asked, short = components.shorten(query[None])[0], components.shorten(rows)
    steps = np.abs(short).max(axis=1, keepdims=True) / 127
    return {
        _NO_STAGE: None,
        _TIMED_STAGE: short.astype(np.float16).astype(np.float32) @ asked,
        "PCA-512, 8 bits": (np.round(short / steps) * steps) @ asked,
        "2 bits a number": _two_bits(rows) @ query,
    }


def _two_bits(rows: np.ndarray) -> np.ndarray:
    scaled = rows * np.sqrt(rows.shape[1])
    coarse = np.where(np.abs(scaled) > _QUARTILE, _OUTER, _INNER) * np.sign(scaled)
    return coarse / np.linalg.norm(coarse, axis=1, keepdims=True)


def times(rows: list[dict[str, Any]], photos: int, queries: int) -> None:
    """Give those rows the median of Postgres that can be asked of it."""
    from django.db import connection, transaction

    from bench.copied_vectors import SHORT, copy_vectors
    from bench.made_shop import make_shop
    from shop_similarity.embedding.index import build_index
    from shop_similarity.models import Embedding

    version = make_shop(photos)
    build_index(version.pk)
    components, _seconds = copy_vectors(photos, 1, only_short=True)
    table = Embedding._meta.db_table
    keys = [1 + place for place in _asked(photos, queries)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT image_id, vector::text, code::text FROM {table} WHERE version_id = %s AND image_id = ANY(%s)",
            [version.pk, keys],
        )
        asked = {key: (vector, code) for key, vector, code in cursor.fetchall()}
    of_version = f"SELECT id, image_id FROM {table} WHERE version_id = {version.pk}"
    near = f"{of_version} ORDER BY code <~> %s::bit({DIMENSIONS}) LIMIT"

    def by_code(key: int, compared: int) -> tuple[str, list[Any]]:
        vector, code = asked[key]
        return (
            f"SELECT e.product_id FROM ({near} {compared}) c JOIN {table} e ON e.id = c.id "
            f"ORDER BY e.vector <=> %s::halfvec({DIMENSIONS}) LIMIT {K}",
            [code, vector],
        )

    def by_stage(key: int, compared: int) -> tuple[str, list[Any]]:
        vector, code = asked[key]
        short = components.shorten(np.array([json.loads(vector)], np.float32))[0]
        return (
            f"SELECT e.product_id FROM (SELECT c.id FROM ({near} {CANDIDATES}) c JOIN {SHORT} s ON s.image_id = "
            f"c.image_id ORDER BY s.vector <=> %s::halfvec LIMIT {compared}) c JOIN {table} e ON e.id = c.id "
            f"ORDER BY e.vector <=> %s::halfvec({DIMENSIONS}) LIMIT {K}",
            [code, str(short.tolist()), vector],
        )

    made: dict[str, Callable[[int, int], tuple[str, list[Any]]]] = {_NO_STAGE: by_code, _TIMED_STAGE: by_stage}
    for row in rows:
        if row["stage"] in made:
            seconds = []
            for key in keys:
                sql, values = made[row["stage"]](key, row["compared"])
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SET LOCAL hnsw.ef_search = 224")
                    seconds.append(timed(lambda cursor=cursor, sql=sql, values=values: cursor.execute(sql, values)))
            # The first ones find the cache as the form before has left it.
            row["p50_ms"] = round(1e3 * statistics.median(seconds[len(seconds) // 5 :]), 2)


if __name__ == "__main__":
    main()
