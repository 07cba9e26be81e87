"""The first API view: GET /api/similarity/products/<pk>/similar/."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Product
from tests.shop_similarity.factories import (
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


@pytest.fixture
def products():
    made = [make_product(f"Lamp {number}") for number in range(12)]
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(12))
    return made


def _url(pk) -> str:
    return f"/api/similarity/products/{pk}/similar/"


def test_similar_products_most_similar_first(client, products):
    response = client.get(_url(products[0].pk), {"limit": 5})
    assert response.status_code == 200
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
    assert first["image"].startswith("http://testserver/media/none/")


@pytest.mark.parametrize("pk", ["0", "99999999999999999999999", "abc", "1'--"])
def test_unknown_products_are_not_found(client, products, pk):
    assert client.get(_url(pk)).status_code == 404


def test_unpublished_products_are_not_found(client, products):
    Product.objects.filter(pk=products[0].pk).update(is_published=False)
    assert client.get(_url(products[0].pk)).status_code == 404
    found = client.get(_url(products[1].pk), {"limit": 50}).json()["results"]
    assert products[0].pk not in {int(row["id"]) for row in found}


@pytest.mark.parametrize("limit", ["0", "-1", "101", "ten"])
def test_wrong_limits_are_refused(client, products, limit):
    response = client.get(_url(products[0].pk), {"limit": limit})
    assert response.status_code == 400
    assert "limit" in response.json()


def test_product_without_embedding_gives_an_empty_list(client):
    product = make_product()
    assert client.get(_url(product.pk)).json() == {"product": str(product.pk), "version": None, "results": []}


def test_number_of_queries_is_constant(client, products):
    from shop_similarity import search_paths

    counts = []
    for limit in (2, 11):
        search_paths.forget_paths()
        with CaptureQueriesContext(connection) as queries:
            client.get(_url(products[0].pk), {"limit": limit})
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 8
