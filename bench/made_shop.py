"""A catalogue of made-up vectors: products with prices and categories, photos, embeddings of one active version.

Written by COPY, without the outbox: a million of them in minutes. Prices are spread evenly over 0 to 1000 whatever the
photos look like, so that a bound of the price admits a known share of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.made_vectors import made_vectors

PRICES = 1_000
CATEGORIES = 100


def make_shop(photos: int, per_product: int = 1) -> Any:
    """The version of a shop with so many photos, made where it is not there yet."""
    from django.db import connection

    from shop_similarity.models import Embedding, ModelVersion

    with connection.cursor() as cursor:
        # As every shop of this size has that lets shoppers filter by price.
        cursor.execute("CREATE INDEX IF NOT EXISTS bench_price ON catalog_product (price)")
    version = ModelVersion.objects.filter(name="bench").first()
    if version is not None:
        if Embedding.objects.filter(version=version).count() < photos:
            raise SystemExit("The folder holds a shop that was not finished, or a smaller one: name another folder.")
        return version
    started = time.perf_counter()
    products = -(-photos // per_product)
    with connection.cursor() as cursor:
        # For the shop's own search by name, which is not measured and takes as long to write as all the rest.
        cursor.execute("DROP INDEX catalog_product_name_trigram")
        cursor.execute(
            "INSERT INTO catalog_category (name, slug) SELECT n::text, n::text FROM generate_series(1, %s) n",
            [CATEGORIES],
        )
        cursor.execute("SELECT array_agg(id ORDER BY id) FROM catalog_category")
        (categories,) = cursor.fetchone()
        _fill(cursor, "catalog_product", products, {
            "id": "n", "name": "n::text", "slug": "n::text", "sku": "n::text",
            "category_id": f"(ARRAY{categories})[1 + (n::bigint * 7919) %% {CATEGORIES}]",
            # A step that is prime to the number of products, so that neighbours in the table differ.
            "price": f"((n::bigint * 7368787) %% {products}) * {PRICES}.0 / {products}",
            "is_published": "true", "stock": "1",
        })  # fmt: skip
        _fill(cursor, "catalog_productphoto", photos, {
            "id": "n", "product_id": f"1 + (n - 1) / {per_product}", "file": "n::text || '.jpg'", "position": "0"
        })  # fmt: skip
    version = ModelVersion.objects.create(name="bench", architecture="mildnet", weights_sha256="0", state="candidate")
    _copy(version.pk, photos, per_product)
    ModelVersion.objects.filter(pk=version.pk).update(state="active")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    print(f"made a shop of {photos} photos in {time.perf_counter() - started:.0f} s", flush=True)
    return ModelVersion.objects.get(pk=version.pk)


def _fill(cursor: Any, table: str, rows: int, values: dict[str, str]) -> None:
    """Insert rows with the given expressions of their number n, and what the type of a column takes for nothing."""
    cursor.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s AND is_nullable = 'NO' "
        "AND column_default IS NULL AND is_identity = 'NO'",
        [table],
    )
    nothing = {"boolean": "false", "timestamp with time zone": "now()", "character varying": "''", "text": "''"}
    values = {name: nothing.get(kind, "0") for name, kind in cursor.fetchall()} | values
    cursor.execute(
        f"INSERT INTO {table} ({', '.join(values)}) OVERRIDING SYSTEM VALUE "
        f"SELECT {', '.join(values.values())} FROM generate_series(1, %s) n",
        [rows],
    )
    cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), %s)", [rows])


def _copy(version_id: int, photos: int, per_product: int) -> None:
    from django.db import connection

    from shop_similarity.models import Embedding

    table = Embedding._meta.db_table
    columns = "version_id, product_id, image_id, file_name, file_mark, content_sha256, vector, code, embedded_at"
    statement = f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.cursor.copy(statement) as copy:
        # The signature of the format, flags and the length of an extension.
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for rows in _rows(version_id, photos, per_product):
            copy.write(rows)
        copy.write(b"\xff\xff")


def _rows(version_id: int, photos: int, per_product: int) -> Iterator[bytes]:
    """Rows of the binary COPY: the number of fields, then each field's length and bytes, all big-endian."""
    from shop_similarity.models import EMBEDDING_DIM

    bits = EMBEDDING_DIM // 8
    lengths = {"version": 8, "product": 8, "image": 8, "name": 12, "mark": 0, "sha": 64}
    lengths |= {"vector": 4 + 2 * EMBEDDING_DIM, "code": 4 + bits, "at": 8}
    fields: list[tuple] = [("fields", ">i2")]
    for name, length in lengths.items():
        fields.append((f"{name} length", ">i4"))
        if name in ("version", "product", "image", "at"):
            fields.append((name, ">i8"))
        elif name == "vector":
            fields += [("dimensions", ">i2"), ("unused", ">i2"), (name, ">f2", EMBEDDING_DIM)]
        elif name == "code":
            fields += [("bits", ">i4"), (name, "u1", bits)]
        elif length:
            fields.append((name, f"S{length}"))
    layout = np.dtype(fields)
    first = 1
    for block in made_vectors(photos, per_product):
        rows = np.zeros(len(block), layout)
        rows["fields"] = len(lengths)
        for name, length in lengths.items():
            rows[f"{name} length"] = length
        numbers = np.arange(first, first + len(block))
        first += len(block)
        rows["version"], rows["image"] = version_id, numbers
        rows["product"] = 1 + (numbers - 1) // per_product
        rows["name"] = [f"{number:08}.jpg".encode() for number in numbers]
        rows["sha"] = [f"{number:064}".encode() for number in numbers]
        rows["dimensions"], rows["bits"] = EMBEDDING_DIM, EMBEDDING_DIM
        halves = block.astype(np.float16)
        rows["vector"] = halves
        rows["code"] = np.packbits(halves > 0, axis=1)
        yield rows.tobytes()
