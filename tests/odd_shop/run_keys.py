"""Run by test_odd_shop.py: addresses, ids and columns of products whose keys are any text."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import quote

import pytest
from django.template import Context, Template
from django.test import Client
from django.urls import reverse

from shop_similarity.catalogue import key_segment, segment_key
from shop_similarity.models import Event, MerchandisingRule
from shop_similarity.storefront.context import fragment_url
from shop_similarity.storefront.options import WidgetOptions
from tests.odd_shop.models import Item
from tests.odd_shop.shop import embed_all, make_item, make_version

pytestmark = pytest.mark.django_db

KEYS = (
    "plain-1",
    "a/b",
    "/a",
    "a/",
    "a//b",
    "..",
    ".",
    "../../etc/passwd",
    "two words",
    " before",
    "after ",
    "\t",
    "two\nlines",
    "100%",
    "%00",
    "a%2Fb",
    "a?b=c",
    "a#b",
    "a&b;c",
    "a,b",
    "<b>\"'",
    "grün/größe",
    "鞋",
    "🙂",
    "e\u0301",
    "a_2Fb",
    "~",
    "~YQ",
    "similar",
    "a/similar",
    "\\",
    "{{ x }}",
    "0",
    "x" * 40,
    "ß" * 40,
)


@pytest.fixture
def shop() -> dict[str, Item]:
    version = make_version()
    items = {key: make_item(key) for key in KEYS}
    embed_all(version, list(items.values()))
    return items


def test_every_address_of_a_product_works_with_every_key(shop, admin_client, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "EVENT_RATE": None, "SEARCH_RATE": None}
    client = Client()
    for key, item in shop.items():
        assert segment_key(key_segment(key)) == key
        page = Template("{% load shop_similarity %}{% similar_products product limit=1 filters=True %}")
        ids = re.findall(r'\bid="([^"]*)"', page.render(Context({"product": item, "request": None})))
        assert ids
        assert all(re.fullmatch(r"[\w.:~@+-]+", identity) for identity in ids)
        response = client.get(fragment_url(item, WidgetOptions(filters=True, limit=2)))
        assert response.status_code == 200
        assert response.content.decode().count("<li ") == 2
        answer = client.get(f"/api/similarity/v1/products/{key_segment(key)}/similar/?limit=2")
        assert answer.status_code == 200
        assert answer.json()["product"] == key
        basket = client.get(reverse("shop_similarity_api:similar-to-several"), {"product": [key_segment(key)]})
        assert basket.json()["products"] == [key]
        other = next(name for name in KEYS if name != key)
        pin = reverse("admin:shop_similarity_pin", args=[key_segment(key)])
        answer = admin_client.post(pin, {"target": other})
        assert answer.status_code == 302
        assert admin_client.get(answer.url).status_code == 200
    assert set(MerchandisingRule.objects.values_list("product_id", flat=True)) == set(KEYS)


def test_a_click_on_every_key_is_recorded(shop):
    client = Client()
    body = client.get(fragment_url(shop[KEYS[0]], WidgetOptions(limit=50))).content.decode()
    token = re.search(r'data-similarity-token="([^"]+)"', body)[1]
    shown = [html.unescape(text) for text in re.findall(r'<li [^>]*data-similarity-product="([^"]*)"', body)]
    assert set(shown) == set(KEYS[1:])
    sent = {"token": token, "events": [{"kind": "click", "product": key} for key in shown]}
    answer = client.post(reverse("shop_similarity:events"), json.dumps(sent), content_type="application/json")
    assert answer.status_code == 204
    clicks = Event.objects.filter(kind="click").values_list("target_product_id", flat=True)
    assert set(clicks) == set(shown)


def test_a_program_may_write_the_key_into_the_address_itself(shop):
    for key in ("a/b", "a//b", "two words", "100%", "a?b=c", "grün/größe", "a/similar", "~", "a,b"):
        for path in ("/api/similarity/v1/products/{}/similar/", "/similarity/products/{}/similar/"):
            assert Client().get(path.format(quote(key, safe=""))).status_code == 200, key


@pytest.mark.parametrize("segment", ["~", "~%", "~YQ", "~_w", "~YQ==", "~\x00"])
def test_what_is_no_segment_is_the_key_itself(segment):
    assert segment_key(segment) == segment


def test_a_key_of_digits_and_letters_is_its_own_segment():
    for key in (7, -7, "b9c1f7f0-7f1c-4a4e-8d0a-6a1ad5c1a001", "sku_1.b:c@d+e"):
        assert key_segment(key) == str(key)
