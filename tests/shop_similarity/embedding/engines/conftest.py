"""A shop that is searched by one engine after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from django.core.cache import cache as django_cache
from django.db import connection

from catalog.models import Product, ProductPhoto
from shop_similarity.embedding.engines import asking, copies, get_engine
from shop_similarity.embedding.engines.interface import Copy
from shop_similarity.embedding.index import build_index, drop_index, indexed_versions
from shop_similarity.models import ModelVersion
from shop_similarity.search import candidates, paths
from tests.shop_similarity.embedding.engines import in_memory
from tests.shop_similarity.factories import (
    make_category,
    make_photos_without_files,
    make_version,
    store_vectors,
)
from tests.support.milvus import MilvusProcess, is_installed
from tests.vectors import random_vectors

IN_MEMORY = "tests.shop_similarity.embedding.engines.in_memory.InMemory"
PRODUCTS = 120
# Few enough for a test, and still too many for a scan, as far as the settings say.
LARGE = {"EXACT_ROWS": 5, "INDEX_ROWS": 10, "CANDIDATES": 30, "DIVERSITY": 0.0, "CATEGORY_BOOST": 0.0}


@dataclass
class Tested:
    """An engine under test.

    Attributes:
        name: as the parameter says.
        stop, start: have it answer no more, and again.
    """

    name: str
    stop: Callable[[], None]
    start: Callable[[], None]

    @property
    def is_beside(self) -> bool:
        return self.name != "pgvector"

    def bring_up(self, *versions: ModelVersion) -> int:
        """Have it hold what Postgres has; how many photos it was told of."""
        if not self.is_beside:
            for version in versions:
                build_index(version.pk)
            return 0
        told = copies.feed()
        asking.forget()
        return told

    def copy_of(self, version: ModelVersion) -> Copy:
        row = copies.wanted_copy(version.pk)
        return copies.copy_of(row) if row is not None else Copy(version.pk, "none")


@pytest.fixture(scope="package")
def milvus() -> Iterator[MilvusProcess]:
    """A real server; REQUIRE_MILVUS=1 makes its lack fail."""
    if not is_installed():
        if os.environ.get("REQUIRE_MILVUS") == "1":
            pytest.fail("milvus and pymilvus are not installed")
        pytest.skip("milvus and pymilvus are not installed: see requirements-dev.txt")
    server = MilvusProcess(Path(os.environ["SHOP_TEST_FOLDER"]) / f"milvus-{os.getpid()}")
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["pgvector", "in memory", pytest.param("milvus", marks=pytest.mark.long)])
def engine(request, settings, transactional_db) -> Iterator[Tested]:
    yield from _engine(request, settings)


@pytest.fixture(params=["in memory", pytest.param("milvus", marks=pytest.mark.long)])
def engine_beside(request, settings, transactional_db) -> Iterator[Tested]:
    yield from _engine(request, settings)


def _engine(request, settings) -> Iterator[Tested]:
    tested, values = Tested(request.param, lambda: None, lambda: None), {"ENGINE": "pgvector"}
    if request.param == "in memory":
        values = {"ENGINE": IN_MEMORY}
        tested.stop, tested.start = (lambda: setattr(in_memory, "IS_DOWN", True)), _start_in_memory
    elif request.param == "milvus":
        server = request.getfixturevalue("milvus")
        server.start()
        # What a test has just written it wants to find.
        options = {"uri": server.uri, "consistency": "Strong", "timeout": 45}
        values = {"ENGINE": "milvus", "ENGINE_OPTIONS": options}
        tested.stop, tested.start = server.stop, server.start
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **LARGE, **values}
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "engines"}}
    django_cache.clear()
    paths.forget_paths()
    asking.forget()
    try:
        yield tested
    finally:
        tested.start()
        if tested.is_beside:
            for row in copies.EngineCopy.objects.filter(engine=values["ENGINE"]):
                get_engine().drop(copies.copy_of(row))
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ENGINE": "pgvector", "ENGINE_OPTIONS": None}
        copies.feed()
        for version in indexed_versions():
            drop_index(version)
        asking.forget()


def _start_in_memory() -> None:
    in_memory.IS_DOWN = False


@pytest.fixture
def is_large(monkeypatch) -> None:
    """As if the catalogue had too many photos for Postgres to do without the engine."""
    monkeypatch.setattr(candidates, "_MOST_SCANNED_INSTEAD", 0)


@dataclass
class Shop:
    """120 products in two categories, one photo each, in ten clusters."""

    products: list[Product]
    photos: list[ProductPhoto]
    vectors: np.ndarray
    version: ModelVersion

    def nearest(self, product: Product, allowed: Callable[[Product], bool] = lambda _: True) -> list:
        """Keys of the others by cosine."""
        place = self.products.index(product)
        order = np.argsort(-(self.vectors @ self.vectors[place]))
        return [self.products[n].pk for n in order if n != place and allowed(self.products[n])]


@pytest.fixture
def shop(engine_or_beside) -> Shop:
    categories = [make_category("Hats"), make_category("Bowls")]
    products = Product.objects.bulk_create(
        Product(name=str(n), slug=str(n), sku=str(n), category=categories[n % 20 == 0], price=n, stock=1)
        for n in range(PRODUCTS)
    )
    photos = make_photos_without_files(products)
    vectors = random_vectors(PRODUCTS, clusters=10)
    version = make_version()
    store_vectors(version, photos, vectors)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE shop_similarity_embedding, catalog_product")
    return Shop(products, photos, vectors, version)


@pytest.fixture
def engine_or_beside(request):
    """Whichever of both the test asks for, before the shop is made."""
    name = "engine" if "engine" in request.fixturenames else "engine_beside"
    return request.getfixturevalue(name)
