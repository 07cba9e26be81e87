"""While the database is away, pages say so, and the shop's own pages do without the widget."""

from __future__ import annotations

import json

import pytest
from django.db import OperationalError, connections
from django.template import engines
from django.test import Client, RequestFactory

from catalog.models import Product
from shop_similarity.feedback import tokens
from shop_similarity.models import ModelVersion
from shop_similarity.templatetags.shop_similarity import similar_products
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

API = "/api/similarity/v1/"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def product(transactional_db) -> Product:
    made = [make_product() for _number in range(3)]
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(3))
    return made[0]


@pytest.mark.slow
def test_while_postgres_is_away(product, postgres, caplog):
    client = Client(raise_request_exception=False)
    token = tokens.issue(version=ModelVersion.objects.active(), surface="api", shown=[product.pk])
    body = json.dumps({"token": token, "events": [{"kind": "impression"}]})
    pages = [
        f"/similarity/products/{product.pk}/similar/",
        f"/similarity/products/{product.pk}/similar/?page=1",
        "/similarity/search/",
        "/similarity/search/00000000-0000-4000-8000-000000000001/",
    ]
    programs = [f"products/{product.pk}/similar/", f"products/similar/?product={product.pk}"]
    programs += ["search/image/00000000-0000-4000-8000-000000000001/"]
    own_pages = ["/", product.get_absolute_url(), "/search/?q=x", "/nothing/"]
    postgres.stop()
    # First with the connection that the server ended, then with none.
    for _ in range(2):
        for path in pages:
            response = client.get(path, headers=HTML)
            assert response.status_code == 503, path
            assert int(response["Retry-After"]) > 0
            assert "<h1>" in response.content.decode()
            assert "again in a few seconds" in response.content.decode()
            response = client.get(path, headers={"Accept": "*/*"})
            assert response.status_code == 503
            assert response.json()["detail"].endswith(".")
        for path in programs:
            response = client.get(API + path)
            assert response.status_code == 503, path
            assert response["Content-Type"] == "application/problem+json"
            assert response.json()["type"] == "urn:problem-type:shop-similarity:database-away"
            assert int(response["Retry-After"]) > 0
        for path in ("/similarity/events/", f"{API}events/"):
            assert client.post(path, body, content_type="application/json").status_code == 503
        for path in own_pages:
            response = client.get(path, headers=HTML | {"Accept-Language": "de"})
            assert response.status_code == 503, path
            assert response["Retry-After"]
            assert 'lang="de"' in response.content.decode()
        connections.close_all()
    assert "The database does not answer." in caplog.text
    postgres.start()
    connections.close_all()
    for path in pages[:3] + own_pages[:3]:
        assert client.get(path, headers=HTML).status_code == 200, path


@pytest.mark.slow
def test_a_page_that_is_there_without_the_database_stays_there_without_the_widget(product, postgres):
    shown = (
        "{% load shop_similarity %}before{% similar_products product %}{% similar_products product lazy=True %}after"
    )
    template = engines["django"].from_string(shown)
    assert "<section" in template.render({"product": product}, RequestFactory().get("/"))
    postgres.stop()
    assert template.render({"product": product}, RequestFactory().get("/")) == "beforeafter"


def test_a_transaction_of_the_pages_own_is_not_kept_from_failing(product, monkeypatch, db):
    def away(*args, **kwargs):
        raise OperationalError("away")

    from django.db import transaction

    monkeypatch.setattr("shop_similarity.templatetags.shop_similarity.widget_context", away)
    assert similar_products({}, product) == ""
    with transaction.atomic(), pytest.raises(OperationalError):
        similar_products({}, product)
