"""The API's search by photo with a real worker process."""

from __future__ import annotations

import json
import time

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from shop_similarity.embedding import bell
from shop_similarity.models import Embedding, VisualQuery
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import add_photo, make_product

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

URL = "/api/similarity/v1/search/image/"


@pytest.fixture(autouse=True)
def _bell(settings):
    # The broker of this run came after the bell's app.
    bell._app.cache_clear()
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_WAIT_SECONDS": 30.0}
    cache.clear()
    yield
    bell.flush(5)
    bell._app.cache_clear()


def test_a_worker_answers(tiny_version, celery_worker_process):
    tiny_version()
    drawn = [("mug", "red"), ("mug", "blue"), ("shirt", "green")]
    made = [make_product(f"{colour} {kind}") for kind, colour in drawn]
    for product, (kind, colour) in zip(made, drawn, strict=True):
        add_photo(product, product_photo(kind, colour))
    worker = celery_worker_process(
        "--pool", "solo", env={"SHOP_TEST_SIMILARITY": json.dumps({"POLL_SECONDS": 0.2, "FALLBACK": None})}
    )
    deadline = time.monotonic() + 60
    while Embedding.objects.count() < 3:
        assert time.monotonic() < deadline, worker.log[-4000:]
        time.sleep(0.05)
    client = Client()
    photo = SimpleUploadedFile("mug.jpg", product_photo("mug", "red"), "image/jpeg")
    response = client.post(URL, {"image": photo, "limit": 1})
    assert response.status_code == 200, (response.content, worker.log[-4000:])
    data = response.json()
    assert data["results"][0]["id"] == str(made[0].pk)
    assert data["results"][0]["similarity"] > 0.99
    more = client.get(data["next"]).json()
    assert more["results"][0]["id"] != str(made[0].pk)
    query = VisualQuery.objects.get(pk=data["id"])
    assert query.photo is None
