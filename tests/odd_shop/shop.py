"""Rows of the odd shop, for the tests that run in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from django.core.files.base import ContentFile

from shop_similarity.catalogue import get_catalogue
from shop_similarity.embedding import outbox
from shop_similarity.embedding.writing import PhotoVector, write_embeddings
from shop_similarity.models import ModelVersion
from tests.odd_shop.models import Item, Node
from tests.vectors import random_vectors


def make_version() -> ModelVersion:
    return ModelVersion.objects.create(name="v1", architecture="mildnet", weights_sha256="0", state="active")


def make_item(code: str, **values) -> Item:
    return Item.objects.create(code=code, title=code, picture=ContentFile(code.encode(), name="p.jpg"), **values)


def make_node(path: str) -> Node:
    return Node.objects.create(name=path, path=path, depth=len(path) // Node.steplen)


def embed_all(version: ModelVersion, items: Sequence[Item], vectors: np.ndarray | None = None) -> None:
    """Vectors of the items in their order; others of theirs own by default."""
    claims = {claim.image_id: claim for claim in outbox.claim(version.pk, 1_000, "w")}
    rows = {row.image_id: row for row in get_catalogue().rows(get_catalogue().images())}
    vectors = random_vectors(len(items)) if vectors is None else vectors
    photos = [
        PhotoVector(claims[item.pk], rows[item.pk], "1:1", f"{number:064x}", vector)
        for number, (item, vector) in enumerate(zip(items, vectors, strict=True))
    ]
    assert len(write_embeddings(version.pk, photos).written) == len(items)
