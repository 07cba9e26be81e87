"""What is written and deleted a second in a version whose index is in place."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.timing import tails, timed

BATCH = 64
_ROUNDS = 5


def writes_and_deletes(version: Any, rows: int) -> dict[str, Any]:
    """Rows a second by the workers' own batches, and of the deletion of one photo after the other by the shop.

    Medians of five rounds. The rows are gone afterwards; what they leave in the index, VACUUM removes.
    """
    from catalog.models import Product, ProductPhoto
    from shop_similarity.catalogue import ImageRow
    from shop_similarity.embedding.outbox import Claim
    from shop_similarity.embedding.writing import PhotoVector, write_embeddings
    from shop_similarity.models import Embedding, OutboxEntry

    random = np.random.default_rng(2)
    product = Product.objects.order_by("pk").first()
    written, deleted, single = [], [], []
    each = max(rows // _ROUNDS, 1)
    for number in range(_ROUNDS):
        photos = ProductPhoto.objects.bulk_create(
            ProductPhoto(product=product, file=f"written-{number}-{n}.jpg", position=9) for n in range(each)
        )
        # As shops have them: another view of a photo that is there.
        near = _vectors_of(version, each, random)
        batch = [
            PhotoVector(
                Claim(photo.pk, (), 1),
                ImageRow(photo.pk, product.pk, photo.file.name),
                "",
                f"{number}{n:063}",
                vector,
            )
            for n, (photo, vector) in enumerate(zip(photos, near, strict=True))
        ]
        seconds = timed(lambda batch=batch: _write(write_embeddings, version, batch))
        written.append(each / seconds)
        began = time.perf_counter()
        for photo in photos:
            single.append(timed(photo.delete))
        deleted.append(each / (time.perf_counter() - began))
    keys = ProductPhoto.objects.filter(file__startswith="written-").values("pk")
    assert not Embedding.objects.filter(version=version, image_id__in=keys).exists()
    OutboxEntry.objects.filter(version=version).delete()
    return {
        "written_per_second": round(float(np.median(written)), 1),
        "deleted_per_second": round(float(np.median(deleted)), 1),
        "deletion": tails(single),
    }


def _write(write: Any, version: Any, batch: list[Any]) -> None:
    for start in range(0, len(batch), BATCH):
        report = write(version.pk, batch[start : start + BATCH])
        assert len(report.written) == len(batch[start : start + BATCH])


def _vectors_of(version: Any, count: int, random: np.random.Generator) -> list[np.ndarray]:
    from shop_similarity.models import Embedding
    from shop_similarity.search.queries import vectors_from

    rows = Embedding.objects.filter(version=version).order_by("pk")
    from shop_similarity.search.sql import Sql

    first = int(random.integers(0, max(rows.count() - count, 1)))
    sent = Sql.of(
        "SELECT halfvec_send(vector) AS vector FROM {table} WHERE version_id = {version} AND image_id > {first} "
        "ORDER BY image_id LIMIT {count}",
        table=Sql(Embedding._meta.db_table),
        version=Sql.number(version.pk),
        first=first,
        count=Sql.number(count),
    ).rows()
    vectors = vectors_from([row.vector for row in sent])
    noise = random.standard_normal(vectors.shape).astype(np.float32) * np.float32(0.2 / np.sqrt(vectors.shape[1]))
    moved = vectors + noise
    return list(moved / np.linalg.norm(moved, axis=1, keepdims=True))
