"""The peers' own tables: the shop's made-up vectors once more, as 32-bit numbers and as principal components."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.made_vectors import DIMENSIONS, made_vectors
from bench.principal_components import PrincipalComponents, fitted

COMPONENTS = 512
FULL, SHORT = "bench_full", "bench_short"


def copy_vectors(
    photos: int, per_product: int, *, only_short: bool = False
) -> tuple[PrincipalComponents, float | None]:
    """Fill both tables, or that of the short vectors alone, which are indexed as pgvector's own HNSW does it.

    The plugin's ``ef_construction`` counts for them too.

    Returns:
        The components, and the seconds that the index took; None where an earlier measurement has left all of it.
    """
    from django.db import connection

    components = fitted(made_vectors(photos, per_product), count=COMPONENTS)
    short = components.directions.shape[1]
    tables = {SHORT: f"halfvec({short})"} | ({} if only_short else {FULL: f"vector({DIMENSIONS})"})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_user_tables WHERE relname = ANY(%s) AND last_vacuum IS NOT NULL",
            [list(tables)],
        )
        if cursor.fetchone() == (len(tables),):
            return components, None
        for table, kind in tables.items():
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
            cursor.execute(f"CREATE TABLE {table} (image_id bigint PRIMARY KEY, product_id bigint, vector {kind})")
        first = 1
        for block in made_vectors(photos, per_product):
            keys = np.arange(first, first + len(block))
            first += len(block)
            if not only_short:
                _copy(cursor, FULL, keys, per_product, block.astype(">f4"))
            _copy(cursor, SHORT, keys, per_product, components.shorten(block).astype(">f2"))
        began = time.perf_counter()
        cursor.execute(
            f"CREATE INDEX ON {SHORT} USING hnsw (vector halfvec_cosine_ops) WITH (m = 16, ef_construction = 128)"
        )
        built = time.perf_counter() - began
        for table in tables:
            cursor.execute(f"VACUUM ANALYZE {table}")
    return components, built


def _copy(cursor: Any, table: str, keys: np.ndarray, per_product: int, vectors: np.ndarray) -> None:
    length = 4 + vectors.dtype.itemsize * vectors.shape[1]
    layout = np.dtype(
        [
            ("fields", ">i2"),
            ("key length", ">i4"),
            ("key", ">i8"),
            ("product length", ">i4"),
            ("product", ">i8"),
            ("vector length", ">i4"),
            ("dimensions", ">i2"),
            ("unused", ">i2"),
            ("vector", vectors.dtype, vectors.shape[1]),
        ]
    )
    rows = np.zeros(len(keys), layout)
    rows["fields"], rows["key length"], rows["product length"], rows["vector length"] = 3, 8, 8, length
    rows["key"], rows["product"] = keys, 1 + (keys - 1) // per_product
    rows["dimensions"], rows["vector"] = vectors.shape[1], vectors
    with cursor.cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff")
