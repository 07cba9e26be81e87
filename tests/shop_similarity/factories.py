"""Rows of the shop and of the plugin, for tests that need many or particular ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from django.core.files.base import ContentFile

from catalog.models import Category, Product, ProductPhoto
from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding.outbox import Claim
from shop_similarity.embedding.writing import PhotoVector, write_embeddings
from shop_similarity.models import ModelVersion

_numbers = itertools.count(1)


def make_category(name: str = "Things") -> Category:
    return Category.objects.get_or_create(slug=name.lower(), defaults={"name": name})[0]


def make_product(name: str | None = None, category: Category | None = None, **values) -> Product:
    number = next(_numbers)
    return Product.objects.create(
        name=name or f"Product {number}",
        slug=f"product-{number}",
        sku=f"SKU-{number}",
        category=category or make_category(),
        **values,
    )


def add_photo(product: Product, content: bytes, name: str = "photo.jpg", position: int = 0) -> ProductPhoto:
    return ProductPhoto.objects.create(product=product, file=ContentFile(content, name=name), position=position)


def make_version(name: str = "drawn", state: str = ModelVersion.State.ACTIVE, **values) -> ModelVersion:
    return ModelVersion.objects.create(
        name=name, architecture="mildnet", state=state, weights="none", weights_sha256="0" * 64, **values
    )


def make_photos_without_files(products: Sequence[Product], per_product: int = 1) -> list[ProductPhoto]:
    """Photo rows in the way that no signal sees, their files named but not there."""
    return ProductPhoto.objects.bulk_create(
        [
            ProductPhoto(product=product, file=f"none/{product.pk}-{number}.jpg", position=number)
            for product in products
            for number in range(per_product)
        ]
    )


def store_vectors(version: ModelVersion, photos: Sequence[ProductPhoto], vectors: np.ndarray) -> None:
    """Store made-up embeddings of photos through the plugin's own writer."""
    written = write_embeddings(
        version.pk,
        [
            PhotoVector(
                Claim(photo.pk, (), 1),
                ImageRow(photo.pk, photo.product_id, photo.file.name),
                "1:1",
                f"{photo.pk:064x}",
                vector,
            )
            for photo, vector in zip(photos, vectors, strict=True)
        ],
    ).written
    assert len(written) == len(photos)
