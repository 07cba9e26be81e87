"""Filters, pages and leanings of a search."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Product
from shop_similarity.models import Embedding
from shop_similarity.search import (
    Filters,
    SearchOptions,
    can_lean,
    paths,
    search_by_vector,
    similar_products,
    similar_to_several,
)
from shop_similarity.search.aspects import Basis, store_basis
from shop_similarity.search.cache import cached_similar_products
from tests.shop_similarity.factories import (
    make_category,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.shop_similarity.shops import PATHS, direction, make_shop, mixed, names
from tests.vectors import DIM, random_vectors


@pytest.fixture(autouse=True)
def _no_kept_paths():
    paths.forget_paths()


@pytest.fixture
def shop(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "PRICE": "price", "CATEGORY_BOOST": 0.0}
    version = make_version()
    made = {}
    for name, category, price in (
        ("asked", "Shirts", "10.00"),
        ("cheap shirt", "Shirts", "9.99"),
        ("dear shirt", "Shirts", "200.00"),
        ("mug", "Mugs", "10.00"),
        ("lamp", "Lamps", None),
    ):
        made[name] = make_product(name, make_category(category), price=price and Decimal(price))
    photos = make_photos_without_files(list(made.values()))
    store_vectors(version, photos, np.stack([mixed({"x": 0.8}, name) for name in made]))
    return made


def _found(product, **filters) -> set[str]:
    return set(names(similar_products(product, options=SearchOptions(filters=Filters(**filters)))))


@pytest.mark.django_db
def test_filters_by_category_and_price(shop):
    asked = shop["asked"]
    shirts, mugs = str(asked.category_id), str(shop["mug"].category_id)
    assert _found(asked) == {"cheap shirt", "dear shirt", "mug", "lamp"}
    assert _found(asked, categories=(shirts,)) == {"cheap shirt", "dear shirt"}
    assert _found(asked, categories=[shirts, mugs]) == {"cheap shirt", "dear shirt", "mug"}
    assert _found(asked, categories=asked.category_id) == {"cheap shirt", "dear shirt"}
    assert _found(asked, categories=("99999999",)) == set()
    assert _found(asked, categories=(str(10**30),)) == set()
    # Both bounds count themselves in, and what has no price passes none.
    assert _found(asked, price_min="10") == {"dear shirt", "mug"}
    assert _found(asked, price_max=Decimal("9.99")) == {"cheap shirt"}
    assert _found(asked, price_min=10, price_max=10.0) == {"mug"}
    assert _found(asked, categories=(shirts,), price_max="50") == {"cheap shirt"}


@pytest.mark.django_db
def test_filters_keep_what_among_says(shop):
    among = Product.objects.filter(pk__in=[shop["mug"].pk, shop["dear shirt"].pk])
    filters = Filters(price_max="50")
    assert names(similar_products(shop["asked"], among=among, options=SearchOptions(filters=filters))) == ["mug"]
    sliced = Product.objects.order_by("name")[:2]
    assert {p.name for p in filters.apply(sliced)} == {"asked", "cheap shirt"}


@pytest.mark.django_db
def test_paths_with_several_values_return_a_product_once(settings, shop):
    # A category's prices: as many as it has products, and the filter must hold for one and the same of them.
    several = {"PRICE": "category__products__price", "CATEGORY": "category__products"}
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **several}
    products = Product.objects.all()
    assert sorted(p.name for p in Filters(price_min="5").apply(products)) == [
        "asked",
        "cheap shirt",
        "dear shirt",
        "mug",
    ]
    assert Filters(price_min="50", price_max="100").apply(products).count() == 0
    by_category = Filters(categories=(shop["asked"].pk, shop["mug"].pk)).apply(products)
    assert by_category.count() == 4
    assert len(similar_products(shop["asked"], options=SearchOptions(filters=Filters(price_min="5")))) == 3


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"price_min": "cheap"}, "'cheap' is no price"),
        ({"price_min": float("nan")}, "'nan' is no price"),
        ({"price_max": "Infinity"}, "no price"),
        ({"price_max": -1}, "0 or more"),
        ({"price_max": "1e40"}, "at most 15 digits"),
        ({"price_min": 20, "price_max": 10}, "20, is above the highest, 10"),
        ({"categories": tuple(map(str, range(101)))}, "101 categories"),
    ],
)
def test_filters_that_can_mean_nothing(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        Filters(**values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"limit": -1}, "limit is -1"),
        ({"offset": -1}, "offset is -1"),
        ({"offset": 1_001}, "0 to 1000"),
        ({"lean": "smell"}, "colour, pattern, shape"),
        ({"diversity": 1.5}, r"diversity is 1\.5"),
        ({"diversity": float("nan")}, "diversity is nan"),
    ],
)
def test_options_that_can_mean_nothing(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        SearchOptions(**values)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "search",
    [
        lambda product, *limit, **options: similar_products(product, *limit, **options),
        lambda product, *limit, **options: similar_to_several([product], *limit, **options),
        lambda product, *limit, **options: search_by_vector(direction("x"), *limit, exclude=[product.pk], **options),
        lambda product, *limit, **options: cached_similar_products(product, *limit, **options),
    ],
    ids=["product", "several", "vector", "cached"],
)
def test_a_limit_is_given_once(search):
    shop = make_shop({str(number): {"x": 0.5} for number in range(12)})
    product = shop["0"]
    assert len(search(product)) == 8
    assert len(search(product, 10)) == 10
    assert len(search(product, options=SearchOptions(limit=9, diversity=0))) == 9
    assert len(search(product, options=SearchOptions(diversity=0))) == 8
    with pytest.raises(TypeError, match="given twice, as 10 and as 8"):
        search(product, 10, options=SearchOptions(diversity=0))


@pytest.mark.django_db
def test_filters_that_the_shop_has_not(settings, shop):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "PRICE": None}
    with pytest.raises(ValueError, match="no filter by price"):
        _found(shop["asked"], price_min=1)
    for text in ("shirts", "\x00", "\ud800"):
        with pytest.raises(ValueError, match="can't be a category"):
            _found(shop["asked"], categories=(text,))
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY": None}
    with pytest.raises(ValueError, match="no filter by category"):
        _found(shop["asked"], categories=("1",))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("limit", [7, 40])
def test_pages_neither_repeat_nor_lose_products(settings, path, limit):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path], "CANDIDATES": 40, "DIVERSITY": 0.3}
    category = make_category()
    made = Product.objects.bulk_create(
        [Product(name=f"P{n}", slug=f"p{n}", sku=f"P{n}", category=category) for n in range(150)]
    )
    photos = make_photos_without_files(made, 2)
    version = make_version()
    store_vectors(version, photos, random_vectors(300, clusters=12))
    pages = []
    for offset in range(0, 161, limit):
        options = SearchOptions(limit=limit, offset=offset)
        pages += [product.pk for product in similar_products(made[0], version=version, options=options)]
        if offset == 0:
            assert len(pages) == limit
    assert len(pages) == 149
    assert set(pages) == {product.pk for product in made[1:]}


@pytest.mark.django_db
def test_first_page_is_the_beginning_of_a_longer_one():
    category = make_category()
    made = Product.objects.bulk_create(
        [Product(name=f"P{n}", slug=f"p{n}", sku=f"P{n}", category=category) for n in range(120)]
    )
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(120, clusters=8))
    longer = [product.pk for product in similar_products(made[5], 30)]
    assert [product.pk for product in similar_products(made[5], 6)] == longer[:6]
    assert [p.pk for p in similar_products(made[5], options=SearchOptions(limit=4, offset=6))] == longer[6:10]


def _basis(aspect_directions: dict[str, list[str]]) -> Basis:
    """A basis in which the directions named belong to one aspect each, outside of which nothing is counted apart."""
    rows = np.linalg.qr(np.stack([direction(n) for part in aspect_directions.values() for n in part]).T)[0]
    rank = rows.shape[1]
    forms, place = np.zeros((3, rank, rank), np.float32), 0
    for aspect, part in enumerate(aspect_directions.values()):
        for _ in part:
            forms[aspect, place, place] = 1
            place += 1
    third = np.full(3, 1 / 3, np.float32)
    return Basis(rows.astype(np.float32), forms, third, np.zeros(3, np.float32), third)


@pytest.fixture
def leaning_shop(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DIVERSITY": 0.0, "LEAN_STRENGTH": 4.0}
    made = make_shop(
        {
            "asked": {"red": 0.6, "dots": 0.5, "round": 0.5},
            "red square": {"red": 0.7, "stripes": 0.5, "square": 0.5},
            "blue round": {"blue": 0.6, "stripes": 0.4, "round": 0.68},
            "dotted": {"blue": 0.6, "dots": 0.75, "square": 0.2},
        }
    )
    from shop_similarity.models import ModelVersion

    version = ModelVersion.objects.get()
    return made, version


@pytest.mark.django_db
def test_leaning_lifts_what_is_alike_in_that(leaning_shop):
    made, version = leaning_shop
    plain = names(similar_products(made["asked"]))
    assert not can_lean()
    # A version that can't tell aspects apart ignores the wish.
    assert names(similar_products(made["asked"], options=SearchOptions(lean="shape"))) == plain
    store_basis(
        version,
        _basis({"colour": ["red", "blue"], "pattern": ["dots", "stripes"], "shape": ["round", "square"]}),
    )
    assert can_lean()
    for lean, first in (("colour", "red square"), ("pattern", "dotted"), ("shape", "blue round")):
        assert names(similar_products(made["asked"], options=SearchOptions(lean=lean)))[0] == first
        by_vector = search_by_vector(
            mixed({"red": 0.6, "dots": 0.5, "round": 0.5}, "asked"),
            exclude=[made["asked"].pk],
            options=SearchOptions(lean=lean),
        )
        assert by_vector[0].name == first


@pytest.mark.django_db
def test_the_colour_is_that_of_the_first_photo(leaning_shop):
    made, version = leaning_shop
    store_basis(
        version,
        _basis({"colour": ["red", "blue"], "pattern": ["dots", "stripes"], "shape": ["round", "square"]}),
    )
    photos = make_photos_without_files([made["asked"]])
    photos[0].position = 1
    photos[0].save()
    store_vectors(version, photos, mixed({"blue": 0.95, "square": 0.2}, "in blue")[None])
    colour = SearchOptions(lean="colour", explain=True)
    assert names(similar_products(made["asked"], options=colour))[0] == "red square"
    assert names(similar_products(made["asked"]))[0] != "red square"
    # Until the first photo is embedded the others speak for it.
    Embedding.objects.filter(product_id=made["asked"].pk).exclude(image_id=photos[0].pk).delete()
    found = similar_products(made["asked"], options=colour)
    assert names(found)[-1] == "red square"
    assert all(product.explanation is not None for product in found)


@pytest.mark.django_db
def test_explanations_belong_to_the_similarity_shown(leaning_shop):
    made, version = leaning_shop
    explained = SearchOptions(explain=True)
    assert [p.explanation for p in similar_products(made["asked"], options=explained)] == [None] * 3
    store_basis(
        version,
        _basis({"colour": ["red", "blue"], "pattern": ["dots", "stripes"], "shape": ["round", "square"]}),
    )
    found = {product.name: product for product in similar_products(made["asked"], options=explained)}
    for product in found.values():
        assert product.explanation.similarity == pytest.approx(product.similarity, abs=2e-3)
    assert found["red square"].explanation.colour == pytest.approx(0.42, abs=0.05)
    assert found["blue round"].explanation.shape == pytest.approx(0.34, abs=0.05)
    assert found["dotted"].explanation.pattern == pytest.approx(0.375, abs=0.05)
    assert similar_products(made["asked"])[0].explanation is None


@pytest.mark.django_db
def test_explaining_and_leaning_cost_one_query_each(leaning_shop):
    made, version = leaning_shop
    store_basis(
        version,
        _basis({"colour": ["red", "blue"], "pattern": ["dots", "stripes"], "shape": ["round", "square"]}),
    )
    assert can_lean(version)
    counts = {}
    for name, options in {
        "plain": SearchOptions(),
        "explain": SearchOptions(explain=True),
        "lean": SearchOptions(lean="shape"),
        "fewer": SearchOptions(limit=1, explain=True),
    }.items():
        similar_products(made["asked"], version=version)
        with CaptureQueriesContext(connection) as queries:
            similar_products(made["asked"], version=version, options=options)
        counts[name] = len(queries)
    assert counts == {"plain": 4, "explain": 5, "lean": 5, "fewer": 5}


@pytest.mark.django_db
def test_vectors_are_asked_with_in_full_length():
    made = make_shop({"a": {"x": 0.9}, "b": {"y": 0.9}})
    assert direction("x").shape == (DIM,)
    found = search_by_vector(direction("x") * 7)
    assert names(found) == ["a", "b"]
    assert found[0].similarity == pytest.approx(0.9, abs=3e-3)
    assert found[0].pk == made["a"].pk
