"""What is sold out is recommended nowhere, unless somebody asks for it."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.db import connection
from django.template import Context, Template
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from catalog.models import Product
from shop_similarity.catalogue.stock import is_sold_out
from shop_similarity.models import MerchandisingRule
from shop_similarity.search import SearchOptions, search_by_vector, similar_products, similar_to_several
from shop_similarity.search.cache import cached_similar_products
from tests.shop_similarity.shops import direction, make_shop, names

pytestmark = pytest.mark.django_db

EVERYTHING = SearchOptions(sold_out=True)


def fallback(product, limit):
    return Product.objects.exclude(pk=product.pk).order_by("name")[:limit]


@pytest.fixture
def shop(settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "IN_STOCK": "stock",
        "FALLBACK": f"{__name__}.fallback",
        "WIDGET_CACHE_SECONDS": 60,
    }
    cache.clear()
    made = make_shop({"asked": {"x": 1}, "gone": {"x": 0.9}, "here": {"x": 0.8}, "there": {"x": 0.7}}, stock=2)
    Product.objects.filter(name="gone").update(stock=0)
    return made


def test_no_search_finds_what_is_sold_out_unless_asked(shop):
    asked = shop["asked"]
    assert names(similar_products(asked)) == ["here", "there"]
    assert names(similar_products(asked, options=EVERYTHING)) == ["gone", "here", "there"]
    assert names(similar_products(asked, among=Product.objects.all())) == ["here", "there"]
    assert names(similar_to_several([asked, shop["there"]])) == ["here"]
    # A shopper's photo is answered by these too.
    assert names(search_by_vector(direction("x"))) == ["asked", "here", "there"]
    assert "gone" in names(search_by_vector(direction("x"), options=EVERYTHING))
    # What is sold out can be asked with.
    assert names(similar_products(shop["gone"])) == ["asked", "here", "there"]


def test_a_pinned_product_that_is_sold_out_is_not_shown(shop):
    MerchandisingRule.objects.create(kind="pin", target_product_id=shop["gone"].pk, position=1)
    assert names(similar_products(shop["asked"])) == ["here", "there"]
    assert names(similar_products(shop["asked"], options=EVERYTHING)) == ["gone", "here", "there"]


def test_a_cached_list_does_not_show_what_was_sold_meanwhile(shop):
    asked = shop["asked"]
    assert names(cached_similar_products(asked, 1)) == ["here"]
    with CaptureQueriesContext(connection) as captured:
        assert names(cached_similar_products(asked, 1)) == ["here"]
    assert not any("MATERIALIZED" in query["sql"] for query in captured.captured_queries)
    Product.objects.filter(name="here").update(stock=0)
    assert names(cached_similar_products(asked, 1)) == ["there"]
    # A list with sold-out products is another list.
    everything = SearchOptions(limit=1, sold_out=True)
    assert names(cached_similar_products(asked, options=everything)) == ["gone"]
    assert names(cached_similar_products(asked, 1)) == ["there"]


def test_widget_fragment_and_api_respect_the_stock(shop, client):
    asked = shop["asked"]
    url = reverse("shop_similarity_api:similar-products", args=[asked.pk])
    assert [result["name"] for result in client.get(url).json()["results"]] == ["here", "there"]
    assert client.get(url, {"sold_out": "true"}).json()["results"][0]["name"] == "gone"
    for tag, shown in (("", False), (" sold_out=True", True)):
        html = Template(f"{{% load shop_similarity %}}{{% similar_products product{tag} %}}")
        assert (shop["gone"].slug in html.render(Context({"product": asked}))) is shown
        lazy = Template(f"{{% load shop_similarity %}}{{% similar_products product lazy=True{tag} %}}")
        source = lazy.render(Context({"product": asked})).split('data-similarity-src="')[1].split('"')[0]
        assert (shop["gone"].slug in client.get(source.replace("&amp;", "&")).content.decode()) is shown


def test_the_fallback_leaves_out_what_is_sold_out(shop, client):
    bare = Product.objects.create(name="bare", slug="bare", sku="bare", category=shop["asked"].category)
    html = client.get(reverse("shop_similarity:similar-products", args=[bare.pk])).content.decode()
    assert [name for name in shop if f"/{shop[name].slug}/" in html] == ["asked", "here", "there"]


def test_a_template_can_ask_whether_a_product_is_sold_out(shop, settings, django_assert_num_queries):
    page = Template("{% load shop_similarity %}{% is_sold_out product as gone %}{% if gone %}above{% endif %}")
    with django_assert_num_queries(2):
        assert [page.render(Context({"product": shop[name]})) for name in ("gone", "here")] == ["above", ""]
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": None}
    with django_assert_num_queries(0):
        assert not is_sold_out(shop["gone"])
    assert names(similar_products(shop["asked"])) == ["gone", "here", "there"]


@pytest.mark.parametrize("path", ["is_published", ["is_published"], "description", "stock", "created_at", "photos"])
def test_true_is_what_is_given_and_not_zero_nor_empty(shop, settings, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": path}
    Product.objects.filter(name="here").update(is_published=False, description="", stock=0)
    Product.objects.exclude(name="here").update(is_published=True, description="yes", stock=1)
    found = names(similar_products(shop["asked"], among=Product.objects.all()))
    assert ("here" in found) == (path in ("created_at", "photos"))
    assert "there" in found
