"""Catalogue folders and products for the tests of the shop."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.cache import cache
from django.core.files.base import ContentFile

import catalog.settings
from catalog.models import Category, Product, ProductPhoto
from tests.catalog.photos import draw, encoded

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def media_folder(settings, tmp_path) -> Path:
    """Each test stores its photos in a folder of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    cache.clear()  # which small copies exist
    return settings.MEDIA_ROOT


@pytest.fixture(autouse=True)
def _stock_counts(settings) -> None:
    """As in the shop's own settings."""
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": catalog.settings.SHOP_SIMILARITY["IN_STOCK"]}


@pytest.fixture
def folder(tmp_path) -> Callable[..., Path]:
    """folder(csv, *photos, encoding=...) -> a folder with that products.csv and drawn photos of these names."""

    def make(csv: str | bytes, *photos: str, encoding: str = "utf-8") -> Path:
        place = tmp_path / "shop"
        place.mkdir(exist_ok=True)
        (place / "products.csv").write_bytes(csv if isinstance(csv, bytes) else csv.encode(encoding))
        for number, photo in enumerate(photos):
            path = place / photo
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(draw(colour=(number * 40 % 256, 90, 120))))
        return place

    return make


@pytest.fixture
def shared_folder() -> Callable[[str], Path]:
    """shared_folder("shops/luma") -> the folder, or the test is skipped where the shared photos are missing."""

    def find(name: str) -> Path:
        place = SHARED / name
        if not (place / "products.csv").is_file():
            pytest.skip(f"needs the photos of ../shared/data/{name}")
        return place

    return find


@pytest.fixture
def make_product(db) -> Callable[..., Product]:
    """make_product(name, category="Men / Tops", photos=1, **fields) -> a saved product with drawn photos."""
    numbers = itertools.count(1)

    def make(name: str = "Thing", category: str = "Things", photos: int = 1, **fields) -> Product:
        number = next(numbers)
        parent = None
        slug = ""
        for step in category.split(" / "):
            slug = f"{slug}-{step}".strip("-").lower()
            parent = Category.objects.get_or_create(slug=slug, defaults={"name": step, "parent": parent})[0]
        values = {"slug": f"thing-{number}", "sku": f"T-{number}", "price": "10.00", "stock": 10} | fields
        product = Product.objects.create(name=name, category=parent, **values)
        for position in range(photos):
            content = encoded(draw(colour=(number * 37 % 256, position * 60 % 256, 90)))
            ProductPhoto.objects.create(
                product=product, position=position, file=ContentFile(content, name=f"{number}-{position}.jpg")
            )
        return product

    return make
