"""The feed over the API: who may read it, its formats, its pages."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache

from shop_similarity.engine_errors import EngineDown
from shop_similarity.storefront import feed
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db

FEED = "/api/similarity/v1/feed/"


@pytest.fixture
def products():
    cache.clear()
    made = [make_product(f"Lamp {number}") for number in range(5)]
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(5))
    return made


@pytest.fixture
def mailer(client, products):
    user = User.objects.create_user("mailer")
    user.user_permissions.add(Permission.objects.get(codename="view_feed"))
    client.force_login(user)
    return client


def read(response) -> str:
    assert response.status_code == 200, response.content
    return b"".join(response.streaming_content).decode()


def test_who_may_read_it(client, products):
    assert client.get(FEED).status_code == 403
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    assert client.get(FEED).status_code == 403


def test_pages_follow_each_other(mailer, products):
    url, lines, pages = f"{FEED}?products=2&limit=3", [], 0
    while url:
        response = mailer.get(url)
        assert response["Content-Type"] == "application/x-ndjson"
        assert response["Cache-Control"] == "no-store"
        lines += [json.loads(line) for line in read(response).splitlines()]
        url = response.get("Link", "").partition(">")[0].removeprefix("<")
        pages += 1
    assert pages == 3
    assert [line["product"] for line in lines] == [str(product.pk) for product in products]
    assert all(len(line["similar"]) == 3 for line in lines)


def test_csv_by_header_or_parameter(mailer, products):
    by_header = mailer.get(FEED, headers={"Accept": "text/csv"})
    assert by_header["Content-Type"] == "text/csv; charset=utf-8"
    text = read(by_header)
    assert text == read(mailer.get(FEED, {"format": "csv"}))
    assert text.startswith("product,position,similar,similarity,pinned\n")
    behind = read(mailer.get(FEED, {"format": "csv", "after": str(products[0].pk)}))
    assert text.endswith(behind)
    assert behind.startswith(f"{products[1].pk},1,")


def test_details(mailer, products):
    first = json.loads(read(mailer.get(FEED, {"details": "true", "products": 1})))["similar"][0]
    assert first["url"].startswith("http://testserver/product/")
    assert first["name"].startswith("Lamp")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"offset": 3}, 400),
        ({"since": "yesterday"}, 400),
        ({"products": 501}, 400),
        ({"after": "no key"}, 422),
        ({"same": "brand"}, 422),
        ({"since": "0001-01-01T00:00:00Z"}, 200),
    ],
    ids=str,
)
def test_parameters(mailer, parameters, status):
    assert mailer.get(FEED, parameters).status_code == status


def test_an_engine_that_is_down_is_said_before_the_first_line(mailer, monkeypatch):
    def down(*_):
        raise EngineDown("It is down.")

    monkeypatch.setattr(feed, "_similar", down)
    for kind in ("jsonl", "csv"):
        answer = mailer.get(FEED, {"format": kind})
        assert answer.status_code == 503 and answer.json()["type"].endswith("search-engine-away")


def test_it_has_a_rate_of_its_own(mailer, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "FEED_RATE": "2/hour"}
    assert [mailer.get(FEED).status_code for _time in range(3)] == [200, 200, 429]


def test_without_a_model(mailer):
    from shop_similarity.models import ModelVersion

    ModelVersion.objects.update(state="retired")
    assert mailer.get(FEED).status_code == 503
