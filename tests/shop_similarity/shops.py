"""Small shops whose products are as similar to each other as a test says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from catalog.models import Product
from shop_similarity.models import ModelVersion
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import DIM

# Settings by which a search takes each of its ways.
PATHS = {
    "exact": {"EXACT_ROWS": 10_000, "INDEX_ROWS": 10_000},
    "codes": {"EXACT_ROWS": 0, "INDEX_ROWS": 10_000},
    "index": {"EXACT_ROWS": 0, "INDEX_ROWS": 0},
}


def direction(name: str) -> np.ndarray:
    """A unit vector of its own for every name; those of different names are nearly orthogonal."""
    random = np.random.default_rng(int.from_bytes(name.encode(), "big") % 2**63)
    vector = random.standard_normal(DIM)
    return vector / np.linalg.norm(vector)


def mixed(parts: Mapping[str, float], name: str) -> np.ndarray:
    """A unit vector that has the given cosines with the directions named, and the rest in a direction of its own."""
    vector = sum((weight * direction(part) for part, weight in parts.items()), np.zeros(DIM))
    rest = direction(f"of its own: {name}")
    if length := float(vector @ vector):
        rest -= (rest @ vector) / length * vector
    return (vector + np.sqrt(max(1 - length, 0)) * rest / np.linalg.norm(rest)).astype(np.float32)


def make_shop(
    products: Mapping[str, Mapping[str, float]], version: ModelVersion | None = None, **values
) -> dict[str, Product]:
    """Products by name, each with one photo that has the given cosines with directions."""
    made = {name: make_product(name, **values) for name in products}
    photos = make_photos_without_files(list(made.values()))
    store_vectors(version or make_version(), photos, np.stack([mixed(parts, name) for name, parts in products.items()]))
    return made


def names(products: list[Product]) -> list[str]:
    return [product.name for product in products]
