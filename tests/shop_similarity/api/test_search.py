"""The API's searches by product and by several products."""

from __future__ import annotations

from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Product
from shop_similarity.feedback import tokens
from shop_similarity.models import ModelVersion
from shop_similarity.search.aspects import ASPECTS, store_basis
from shop_similarity.search.paths import forget_paths
from tests.shop_similarity.factories import (
    make_category,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.shop_similarity.search.test_aspects import known_basis
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db

API = "/api/similarity/v1/"


@pytest.fixture(autouse=True)
def _settings(settings):
    # Nothing here is about near-identical products, and random vectors have none.
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "PRICE": "price", "SEARCH_RATE": None}
    cache.clear()


@pytest.fixture
def products():
    made = [
        make_product(f"Lamp {number}", make_category("Lamps" if number % 2 else "Mugs"), price=Decimal(number))
        for number in range(12)
    ]
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(12))
    return made


def similar(pk) -> str:
    return f"{API}products/{pk}/similar/"


def keys(response) -> list[str]:
    assert response.status_code == 200, response.content
    return [row["id"] for row in response.json()["results"]]


def test_similar_products_most_similar_first(client, products, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY": None, "DIVERSITY": 0.0}
    response = client.get(similar(products[0].pk), {"limit": 5})
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    data = response.json()
    assert data["product"] == str(products[0].pk)
    assert data["version"] == "drawn"
    similarities = [row["similarity"] for row in data["results"]]
    assert len(similarities) == 5
    assert similarities == sorted(similarities, reverse=True)
    first = data["results"][0]
    product = Product.objects.get(pk=first["id"])
    assert first["name"] == product.name
    assert first["url"] == f"http://testserver{product.get_absolute_url()}"
    assert first["pinned"] is False
    assert first["explanation"] is None


def test_products_without_get_absolute_url_have_the_address_that_they_name(client, products, monkeypatch):
    monkeypatch.delattr(Product, "get_absolute_url")
    address = similar(products[0].pk)
    assert client.get(address).json()["results"][0]["url"] is None
    monkeypatch.setattr(Product, "url", property(lambda product: f"/page-{product.pk}/"), raising=False)
    first = client.get(address).json()["results"][0]
    assert first["url"] == f"http://testserver/page-{first['id']}/"


def test_image_has_absolute_addresses(client, products, settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "THUMBNAILS": "tests.shop_similarity.api.test_search.two_copies",
    }
    image = client.get(similar(products[0].pk), {"limit": 1}).json()["results"][0]["image"]
    assert image == {
        "url": "http://testserver/small.webp",
        "srcset": "http://testserver/small.webp 240w, https://cdn.example/a,b.webp 480w",
        "width": 480,
        "height": 600,
    }


def two_copies(file, widths):
    return [("/small.webp", 240, 300), ("https://cdn.example/a,b.webp", 480, 600)]


def test_token_names_the_list(client, products):
    data = client.get(similar(products[0].pk), {"limit": 3}).json()
    query = tokens.read(data["token"])
    assert str(query.id) == data["query_id"]
    assert list(query.shown) == [row["id"] for row in data["results"]]
    assert query.product_id == str(products[0].pk)
    assert query.surface == "api"


def test_no_token_where_nothing_is_recorded(client, products, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RECORD_EVENTS": False}
    data = client.get(similar(products[0].pk)).json()
    assert data["token"] is None
    assert data["query_id"] is None


@pytest.mark.parametrize("pk", ["0", "99999999999999999999999", "abc", "1'--", "%00", "-1", "1.0"])
def test_unknown_products_are_not_found(client, products, pk):
    assert client.get(similar(pk)).status_code == 404


def test_unpublished_products_are_not_found(client, products):
    Product.objects.filter(pk=products[0].pk).update(is_published=False)
    assert client.get(similar(products[0].pk)).status_code == 404
    assert str(products[0].pk) not in keys(client.get(similar(products[1].pk), {"limit": 50}))


def test_product_without_embedding_gives_an_empty_list(client, products):
    response = client.get(similar(make_product().pk))
    assert keys(response) == []
    assert response.json()["next"] is None
    assert response.json()["token"] is None


def test_pages_are_followed_to_the_end(client, products):
    url, seen, pages = similar(products[0].pk) + "?limit=4", [], 0
    while url:
        response = client.get(url)
        seen += keys(response)
        pages += 1
        data = response.json()
        assert (data["previous"] is None) == (pages == 1)
        url = data["next"]
    assert len(seen) == len(set(seen)) == 11
    assert pages == 3


def test_links_repeat_the_filters(client, products):
    data = client.get(
        similar(products[0].pk), {"limit": 2, "offset": 1, "category": products[1].category_id, "price_min": "0.5"}
    ).json()
    address = urlsplit(data["next"])
    assert address.path == similar(products[0].pk)
    assert parse_qs(address.query) == {
        "limit": ["2"],
        "offset": ["3"],
        "category": [str(products[1].category_id)],
        "price_min": ["0.5"],
    }
    assert parse_qs(urlsplit(data["previous"]).query)["offset"] == ["0"]


def test_there_is_no_next_page_beyond_the_bound(client, products, monkeypatch):
    monkeypatch.setattr("shop_similarity.api.search.MAX_OFFSET", 5)
    assert client.get(similar(products[0].pk), {"limit": 4}).json()["next"]
    assert client.get(similar(products[0].pk), {"limit": 4, "offset": 4}).json()["next"] is None


def test_filters(client, products):
    lamps = {str(product.pk) for product in products if product.category.name == "Lamps"}
    category = products[1].category_id
    assert set(keys(client.get(similar(products[0].pk), {"category": category, "limit": 50}))) == lamps
    both = [category, products[0].category_id]
    assert len(keys(client.get(similar(products[0].pk), {"category": both, "limit": 50}))) == 11
    cheap = keys(client.get(similar(products[0].pk), {"price_min": "2", "price_max": "4.00", "limit": 50}))
    assert set(cheap) == {str(product.pk) for product in products[2:5]}


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=1_0", "limit"),
        ("limit=", "limit"),
        ("limit=3&limit=4", "limit"),
        ("offset=1001", "offset"),
        ("lean=size", "lean"),
        ("explain=yes", "explain"),
        ("collapse=1", "collapse"),
        ("diversity=nan", "diversity"),
        ("diversity=1.1", "diversity"),
        ("price_min=-1", "price_min"),
        ("price_max=inf", "price_max"),
        ("category=", "category.0"),
        ("category=%00", "category.0"),
        ("limits=3", "limits"),
    ],
)
def test_wrong_values_are_named(client, products, parameters, name):
    response = client.get(similar(products[0].pk) + "?" + parameters)
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == 400
    assert problem["type"] == "urn:problem-type:shop-similarity:invalid-values"
    assert {error["name"] for error in problem["errors"]} == {name}
    assert problem["errors"][0]["detail"]


def test_misspelled_parameters_get_a_hint(client, products):
    (error,) = client.get(similar(products[0].pk), {"price_mn": "3"}).json()["errors"]
    assert "price_min" in error["detail"]


def test_values_that_do_not_go_together(client, products, settings):
    response = client.get(similar(products[0].pk), {"price_min": "5", "price_max": "4"})
    assert response.status_code == 422
    assert "5" in response.json()["detail"]
    assert client.get(similar(products[0].pk), {"category": "no number"}).status_code == 422
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "PRICE": None}
    response = client.get(similar(products[0].pk), {"price_min": "5"})
    assert response.status_code == 422
    assert "PRICE" in response.json()["detail"]


def test_lean_without_aspects_is_refused(client, products):
    response = client.get(similar(products[0].pk), {"lean": "colour"})
    assert response.status_code == 422
    assert response.json()["type"].endswith(":lean-unavailable")
    assert response.json()["errors"][0]["name"] == "lean"


def test_no_active_version_is_503(client, products):
    ModelVersion.objects.update(state="retired")
    response = client.get(similar(products[0].pk))
    assert response.status_code == 503
    assert response["Retry-After"] == "60"
    assert response.json()["type"].endswith(":no-active-model")


def test_basket(client, products):
    asked = [products[0].pk, products[1].pk, 999_999, products[0].pk]
    response = client.get(API + "products/similar/", {"product": asked, "limit": 5})
    found = keys(response)
    data = response.json()
    assert len(found) == 5
    assert data["products"] == [str(products[0].pk), str(products[1].pk)]
    assert data["unknown"] == ["999999"]
    assert not {str(products[0].pk), str(products[1].pk)} & set(found)
    assert tokens.read(data["token"]).surface == "basket"


def test_basket_of_one_finds_what_the_product_finds(client, products):
    one = keys(client.get(API + "products/similar/", {"product": products[3].pk}))
    assert one
    assert set(one) == set(keys(client.get(similar(products[3].pk))))


@pytest.mark.parametrize("asked", [[], list(range(1, 22)), [""]])
def test_baskets_that_are_refused(client, products, asked):
    assert client.get(API + "products/similar/", {"product": asked}).status_code == 400


def test_basket_of_unknown_products_is_not_found(client, products):
    assert client.get(API + "products/similar/", {"product": ["x", "0"]}).status_code == 404


@pytest.mark.parametrize("basket", [False, True])
def test_number_of_queries_is_constant(client, products, basket):
    counts = []
    for limit in (2, 11):
        cache.clear()
        forget_paths()
        url = API + "products/similar/" if basket else similar(products[0].pk)
        parameters = {"limit": limit} | ({"product": [products[0].pk, products[1].pk]} if basket else {})
        with CaptureQueriesContext(connection) as queries:
            assert len(keys(client.get(url, parameters))) == min(limit, 10 if basket else 11)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 14, [query["sql"][:150] for query in queries]


def test_number_of_queries_does_not_depend_on_the_basket(client, products):
    counts = []
    for asked in (products[:2], products[:8]):
        cache.clear()
        forget_paths()
        with CaptureQueriesContext(connection) as queries:
            keys(client.get(API + "products/similar/", {"product": [product.pk for product in asked]}))
        counts.append(len(queries))
    assert counts[0] == counts[1], [query["sql"][:150] for query in queries]


def test_explanations_and_leaning(client, products):
    store_basis(ModelVersion.objects.get(name="drawn"), known_basis())
    url = similar(products[0].pk)
    plain = client.get(url, {"explain": "true", "limit": 11}).json()["results"]
    for row in plain:
        explanation = row["explanation"]
        assert set(explanation) == {"colour", "pattern", "shape", "sentence"}
        assert explanation["sentence"].startswith("Similar")
        assert sum(explanation[aspect] for aspect in ASPECTS) == pytest.approx(1, abs=0.001) or not any(
            explanation[aspect] for aspect in ASPECTS
        )
    leaned = keys(client.get(url, {"lean": "colour", "limit": 11}))
    assert sorted(leaned) == sorted(row["id"] for row in plain)
    counts = []
    for limit in (2, 11):
        cache.clear()
        forget_paths()
        with CaptureQueriesContext(connection) as queries:
            keys(client.get(url, {"lean": "shape", "explain": "true", "limit": limit}))
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 18, [query["sql"][:150] for query in queries]
