"""What tests do in a shop of this folder: take it for the shop, write a photo's vector, look what waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from django.core.files.base import ContentFile
from django.test.utils import override_settings

from shop_similarity.catalogue import get_catalogue
from shop_similarity.embedding.outbox import Claim
from shop_similarity.embedding.writing import PhotoVector, write_embeddings
from shop_similarity.hooks import connect_hooks
from shop_similarity.models import ModelVersion, OutboxEntry
from tests.relation_shops.models import Image
from tests.vectors import random_vectors


@contextmanager
def the_shop(model: str, images: str, **more: Any) -> Iterator[None]:
    """Settings of a shop of this folder, with its hooks."""
    shop = {"PRODUCT_MODEL": f"relation_shops.{model}", "IMAGES": images, "WIDGET_CACHE_SECONDS": 0, **more}
    try:
        with override_settings(SHOP_SIMILARITY=shop):
            connect_hooks()
            yield
    finally:
        connect_hooks()


def some_file(name: str = "a.jpg") -> ContentFile:
    return ContentFile(name.encode(), name=name)


def image(name: str = "a.jpg", **values: Any) -> Image:
    return Image.everything.create(file=some_file(name), **values)


def waiting() -> set[tuple]:
    """Photo row and product of what waits."""
    entries = OutboxEntry.objects.filter(failed_at__isnull=True)
    return set(entries.values_list("image_id", "product_id"))


def embed_all(version: ModelVersion, vectors: np.ndarray | None = None) -> list[tuple]:
    """Store vectors of all photos that there are, by default drawn ones, as a worker would; (row, product) of each."""
    OutboxEntry.objects.all().delete()
    catalogue = get_catalogue()
    rows = list(catalogue.rows(catalogue.images()))
    vectors = random_vectors(max(len(rows), 1)) if vectors is None else vectors
    written = write_embeddings(
        version.pk,
        [
            PhotoVector(Claim(row.image_id, (), 1), row, "1:1", f"{row.image_id:064x}", vector)
            for row, vector in zip(rows, vectors, strict=False)
        ],
    ).written
    assert len(written) == len(rows)
    return [(row.image_id, row.product_id) for row in rows]
