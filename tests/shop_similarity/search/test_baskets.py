"""Products that look like several at once."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Product
from shop_similarity.conf import get_settings
from shop_similarity.embedding.index import build_index
from shop_similarity.search import Filters, SearchOptions, paths, similar_products, similar_to_several
from shop_similarity.search.queries import MOST_PRODUCTS
from tests.shop_similarity.factories import (
    make_category,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.shop_similarity.shops import PATHS, make_shop, names
from tests.vectors import random_vectors


@pytest.fixture(autouse=True)
def _by_similarity_alone(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DIVERSITY": 0.0, "CATEGORY": None}
    paths.forget_paths()


def _many(products: int, per_product: int, clusters: int):
    category = make_category()
    made = Product.objects.bulk_create(
        [Product(name=f"P{n}", slug=f"p{n}", sku=f"P{n}", category=category) for n in range(products)]
    )
    photos = make_photos_without_files(made, per_product)
    vectors = random_vectors(len(photos), clusters=clusters)
    version = make_version()
    store_vectors(version, photos, vectors)
    return made, photos, vectors.astype(np.float16).astype(np.float32), version


def _brute_force(asked, made, photos, vectors) -> list[tuple[int, float]]:
    """Mean over the products asked with of the best cosine of any two photos, those behind a first one for less."""
    owners = np.array([photo.product_id for photo in photos])
    is_first = np.append(True, owners[1:] != owners[:-1])
    cosines = vectors @ vectors.T * np.where(is_first, 1, get_settings().other_photos_weight)[:, None]
    found = {}
    for product in made:
        if product not in asked:
            own = owners == product.pk
            found[product.pk] = np.mean([cosines[owners == other.pk][:, own].max() for other in asked])
    return sorted(found.items(), key=lambda item: -item[1])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", PATHS)
def test_finds_what_brute_force_finds(settings, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path], "DUPLICATE_SIMILARITY": 2.0}
    made, photos, vectors, version = _many(240, 2, clusters=12)
    if path == "index":
        build_index(version.pk)
    asked = [made[3], made[50], made[111]]
    found = similar_to_several(asked, 8)
    expected = _brute_force(asked, made, photos, vectors)
    assert [product.similarity for product in found] == sorted((p.similarity for p in found), reverse=True)
    truth = dict(expected)
    # The codes may pass over a product, but every similarity that is shown is exact.
    assert [product.similarity for product in found] == pytest.approx([truth[p.pk] for p in found], abs=3e-3)
    right = {product.pk for product in found} & {pk for pk, _ in expected[:8]}
    assert len(right) >= (8 if path == "exact" else 6)


@pytest.mark.django_db
def test_what_is_a_little_like_everything_stands_beside_what_is_like_one():
    made = make_shop(
        {
            "shirt": {"shirt": 1.0},
            "shoe": {"shoe": 1.0},
            "other shirt": {"shirt": 0.9},
            "other shoe": {"shoe": 0.8},
            "outfit": {"shirt": 0.6, "shoe": 0.6},
            "mug": {"mug": 1.0},
        }
    )
    found = similar_to_several([made["shirt"], made["shoe"]])
    assert names(found) == ["outfit", "other shirt", "other shoe", "mug"]
    assert [product.similarity for product in found] == pytest.approx([0.6, 0.45, 0.4, 0.0], abs=0.05)
    assert names(similar_to_several([made["shirt"], made["shoe"]], 1)) == ["outfit"]


@pytest.mark.django_db
def test_one_product_is_asked_with_as_by_itself():
    made = make_shop({"a": {"x": 1}, "b": {"x": 0.9}, "c": {"x": 0.8}})
    alone = similar_products(made["a"])
    for basket in ([made["a"]], [made["a"], made["a"]], [make_product("not embedded"), made["a"]]):
        found = similar_to_several(basket)
        assert names(found) == names(alone) == ["b", "c"]
        assert [p.similarity for p in found] == pytest.approx([p.similarity for p in alone], abs=1e-6)


@pytest.mark.django_db
def test_nothing_to_ask_with():
    assert similar_to_several([]) == []
    product = make_product()
    assert similar_to_several([product]) == []
    make_version()
    assert similar_to_several([product, Product(name="unsaved")]) == []
    with pytest.raises(ValueError, match="limit"):
        similar_to_several([product], -1)


@pytest.mark.django_db
def test_of_a_large_basket_the_last_products_count_and_none_is_found():
    made = make_shop({f"p{n}": {"x": 0.5} for n in range(MOST_PRODUCTS + 5)} | {"rest": {"x": 0.4}})
    basket = [product for name, product in made.items() if name != "rest"]
    assert names(similar_to_several(basket)) == ["rest"]


@pytest.mark.django_db
def test_filters_variants_and_pages(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VARIANT_GROUP": "description", "PRICE": "price"}
    cosines = {"a": 1.0, "b": 0.9, "c": 0.8, "d": 0.7, "e": 0.6, "f": 0.5}
    made = make_shop({name: {"x": cosine} for name, cosine in cosines.items()}, price=10)
    Product.objects.filter(name__in=["b", "c"]).update(description="of b")
    basket = [made["a"], made["b"]]
    assert names(similar_to_several(basket)) == ["d", "e", "f"]
    Product.objects.filter(name="d").update(price=99)
    assert names(similar_to_several(basket, options=SearchOptions(filters=Filters(price_max=50)))) == ["e", "f"]
    assert names(similar_to_several(basket, options=SearchOptions(limit=2, offset=1))) == ["e", "f"]


@pytest.mark.django_db
def test_number_of_queries_does_not_grow_with_the_basket():
    made, *_ = _many(60, 2, clusters=6)
    counts = []
    for size in (1, 2, 12):
        paths.forget_paths()
        with CaptureQueriesContext(connection) as queries:
            for product in similar_to_several(made[:size], 5):
                assert product.photos.all()[0].file.name
        counts.append(len(queries))
    assert counts[0] == counts[1] == counts[2] <= 6
