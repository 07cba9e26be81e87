"""The API's search by photo. The worker's part is written by hand here; tests/workers has the real one."""

from __future__ import annotations

import io
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pgvector import HalfVector
from PIL import Image

from shop_similarity.feedback import tokens
from shop_similarity.models import VisualQuery
from shop_similarity.search.paths import forget_paths
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

URL = "/api/similarity/v1/search/image/"


@pytest.fixture(autouse=True)
def _settings(settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "UPLOAD_RATE": None,
        "SEARCH_RATE": None,
        "VISUAL_SEARCH_WAIT_SECONDS": 0,
    }
    cache.clear()


@pytest.fixture
def products(db):
    made = [make_product(f"Lamp {number}") for number in range(9)]
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(9))
    return made


@pytest.fixture
def answered(monkeypatch):
    """A worker that is there at once: the query is answered with the vector of the first product."""
    from shop_similarity import visual_search

    real = visual_search.submit

    def submit(*args, **kwargs):
        query = real(*args, **kwargs)
        answer(query)
        return query

    monkeypatch.setattr("shop_similarity.visual_search.submit", submit)


def answer(query: VisualQuery, vector: np.ndarray | None = None) -> None:
    VisualQuery.objects.filter(pk=query.pk).update(
        vector=HalfVector(random_vectors(9)[0] if vector is None else vector), photo=None, answered_at=timezone.now()
    )


def photo(name: str = "photo.jpg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, product_photo("mug", "red"), "image/jpeg")


def problem(response, status: int, slug: str) -> dict:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    found = response.json()
    assert found["type"] == f"urn:problem-type:shop-similarity:{slug}"
    assert found["detail"]
    return found


def test_photo_finds_products_and_pages(client, products, answered):
    response = client.post(URL, {"image": photo(), "crop": "0,0,1,0.9", "limit": "4"})
    assert response.status_code == 200, response.content
    data = response.json()
    assert len(data["results"]) == 4
    assert data["results"][0]["id"] == str(products[0].pk)
    assert data["results"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert tokens.read(data["token"]).surface == "visual"
    following = urlsplit(data["next"])
    assert following.path == f"{URL}{data['id']}/"
    assert parse_qs(following.query) == {"limit": ["4"], "offset": ["4"]}
    seen = [row["id"] for row in data["results"]]
    while data["next"]:
        data = client.get(data["next"]).json()
        seen += [row["id"] for row in data["results"]]
    assert sorted(seen) == sorted(str(product.pk) for product in products)


def test_results_are_filtered_without_the_photo(client, products, answered):
    data = client.post(URL, {"image": photo()}).json()
    assert VisualQuery.objects.get(pk=data["id"]).photo is None
    response = client.get(f"{URL}{data['id']}/", {"category": products[0].category_id, "limit": 2})
    assert response.status_code == 200
    assert len(response.json()["results"]) == 2
    assert client.get(f"{URL}{data['id']}/", {"category": "999999"}).json()["results"] == []


def test_number_of_queries_is_constant(client, products, answered):
    key = client.post(URL, {"image": photo()}).json()["id"]
    posted, got = [], []
    for limit in (2, 9):
        cache.clear()
        forget_paths()
        with CaptureQueriesContext(connection) as queries:
            assert len(client.get(f"{URL}{key}/", {"limit": limit}).json()["results"]) == limit
        got.append(len(queries))
        cache.clear()
        forget_paths()
        with CaptureQueriesContext(connection) as queries:
            assert len(client.post(URL, {"image": photo(), "limit": limit}).json()["results"]) == limit
        posted.append(len(queries))
    assert got[0] == got[1] <= 14
    # Savepoint, lock, tidying up, the queue, the row, the notification; and the test's own worker.
    assert posted[0] == posted[1] <= 28


@pytest.mark.parametrize(
    ("content", "slug"),
    [(b"", "image-unusable"), (b"no photo at all", "image-unusable"), (b"\xff\xd8\xff\xe0cut off", "image-unusable")],
)
def test_what_is_no_photo(client, products, content, slug):
    found = problem(client.post(URL, {"image": SimpleUploadedFile("a.jpg", content)}), 422, slug)
    assert found["errors"][0]["name"] == "image"


def test_too_many_pixels(client, products, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_MAX_PIXELS": 1_000}
    problem(client.post(URL, {"image": photo()}), 422, "image-unusable")


def test_format_that_is_not_allowed(client, products):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(buffer, "TIFF")
    problem(client.post(URL, {"image": SimpleUploadedFile("a.jpg", buffer.getvalue())}), 422, "image-unusable")


def test_large_photo_is_refused(client, products, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_MAX_BYTES": 500}
    problem(client.post(URL, {"image": photo()}), 413, "too-large")


def test_large_body_is_refused_before_it_is_read(client, products):
    class Unread(io.BytesIO):
        def read(self, *args):
            raise AssertionError("the body was read")

    response = client.generic(
        "POST",
        URL,
        b"",
        CONTENT_TYPE="multipart/form-data; boundary=x",
        CONTENT_LENGTH=str(50 * 2**20),
        **{"wsgi.input": Unread()},
    )
    problem(response, 413, "too-large")


@pytest.mark.parametrize("crop", ["0,0,1", "0.5,0,2,1", "a,b,c,d", "0,0,1,1,1", "-0.1,0,1,1", "0,0,nan,1", ""])
def test_wrong_crops(client, products, crop):
    found = problem(client.post(URL, {"image": photo(), "crop": crop}), 400, "invalid-values")
    assert found["errors"][0]["name"] == "crop"


def test_empty_crop(client, products):
    found = problem(client.post(URL, {"image": photo(), "crop": "0.5,0,0.5,1"}), 422, "image-unusable")
    assert found["errors"][0]["name"] == "crop"


def test_missing_photo_and_unknown_fields(client, products):
    found = problem(client.post(URL, {"limits": "3"}), 400, "invalid-values")
    assert {error["name"] for error in found["errors"]} == {"image", "limits"}
    found = problem(client.post(URL, {"image": "a text"}), 400, "invalid-values")
    assert [error["name"] for error in found["errors"]] == ["image"]


@pytest.mark.parametrize("content_type", ["application/json", "image/jpeg", "application/x-www-form-urlencoded"])
def test_other_content_types(client, products, content_type):
    for body in (b"", b"{}"):
        response = client.generic("POST", URL, body, CONTENT_TYPE=content_type)
        problem(response, 415, "unsupported-media-type")


def test_broken_forms(client, products):
    response = client.generic("POST", URL, b"--x\r\nnonsense", content_type="multipart/form-data")
    problem(response, 400, "malformed-body")


def test_busy_without_a_worker(client, products):
    response = client.post(URL, {"image": photo()})
    problem(response, 503, "busy")
    assert int(response["Retry-After"]) > 0
    # The photo waits for a moment longer: it may be answered yet.
    query = VisualQuery.objects.get()
    problem(client.get(f"{URL}{query.pk}/"), 503, "busy")
    answer(query)
    assert client.get(f"{URL}{query.pk}/").status_code == 200


def test_full_queue(client, products, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_QUEUE": 1}
    client.post(URL, {"image": photo()})
    problem(client.post(URL, {"image": photo()}), 503, "busy")
    assert VisualQuery.objects.count() == 1


def test_no_active_version(client, db):
    response = client.post(URL, {"image": photo()})
    problem(response, 503, "no-active-model")
    assert response["Retry-After"] == "60"


def test_lean_is_refused_before_the_photo_waits(client, products):
    problem(client.post(URL, {"image": photo(), "lean": "colour"}), 422, "lean-unavailable")
    assert not VisualQuery.objects.exists()


def test_unknown_expired_and_failed_searches(client, products, answered):
    problem(client.get(f"{URL}5b8f9c3e-0000-4000-8000-000000000000/"), 404, "not-found")
    problem(client.get(f"{URL}no-uuid/"), 404, "not-found")
    key = client.post(URL, {"image": photo()}).json()["id"]
    VisualQuery.objects.filter(pk=key).update(vector=None, error=VisualQuery.Error.FAILED)
    problem(client.get(f"{URL}{key}/"), 404, "not-found")


class Replica:
    """Reads from a copy of the database, which has no unlogged tables."""

    def db_for_read(self, model, **hints):
        return "replica" if model is VisualQuery else None


def test_results_in_a_shop_that_reads_from_a_replica(client, products, answered, settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.Replica", *settings.DATABASE_ROUTERS]
    key = client.post(URL, {"image": photo()}).json()["id"]
    assert len(client.get(f"{URL}{key}/").json()["results"]) == 8


def test_expires_at(client, products, answered, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_KEEP_SECONDS": 60}
    data = client.post(URL, {"image": photo()}).json()
    created = VisualQuery.objects.get(pk=data["id"]).created_at
    assert data["expires_at"] == (created + timedelta(seconds=60)).isoformat().replace("+00:00", "Z")


@pytest.mark.django_db(transaction=True)
def test_works_in_a_shop_that_wraps_requests_in_transactions(monkeypatch):
    store_vectors(make_version(), make_photos_without_files([make_product()]), random_vectors(1))
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    problem(Client().post(URL, {"image": photo()}), 503, "busy")
    assert VisualQuery.objects.get().photo is not None
