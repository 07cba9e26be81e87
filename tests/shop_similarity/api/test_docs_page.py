"""The page that documents the API, in a real browser under a strict policy."""

from __future__ import annotations

import pytest
from django.core.cache import cache

from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

OPERATION = "#operations-Similar_products-similar_products"


def test_an_operation_can_be_tried_out(live_server, chromium):
    cache.clear()
    made = [make_product(), make_product("Look-alike")]
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(2))
    page = chromium.new_page()
    said, addresses = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    try:
        response = page.goto(live_server.url + "/api/similarity/v1/docs/")
        assert "default-src 'self'" in response.headers["content-security-policy"]
        assert "unsafe-inline" not in response.headers["content-security-policy"]
        page.wait_for_selector(".opblock")
        assert page.locator(".opblock").count() == 10
        page.click(f"{OPERATION} .opblock-summary-control")
        page.click(f"{OPERATION} .try-out__btn")
        page.fill(f'{OPERATION} tr[data-param-name="id"] input', str(made[0].pk))
        page.click(f"{OPERATION} .execute")
        page.wait_for_selector(f"{OPERATION} .live-responses-table .highlight-code")
        assert "Look-alike" in page.inner_text(f"{OPERATION} .live-responses-table")
        assert said == []
        assert all(address.startswith((live_server.url, "data:")) for address in addresses)
    finally:
        page.close()
