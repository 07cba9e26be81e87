"""Every kind of queryset that a shop can return, by every way in which its products are asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db.models import Count, F, Q, QuerySet, Window
from django.db.models.functions import RowNumber, Upper
from django.template import Context, Template
from django.test import Client
from django.urls import reverse

from catalog.models import Product
from shop_similarity import database
from shop_similarity.catalogue.querysets import UnusableQuerysetError, filterable
from shop_similarity.checks import check_database
from shop_similarity.models import MerchandisingRule
from shop_similarity.search import Filters, SearchOptions, search_by_vector, similar_products, similar_to_several
from shop_similarity.search.cache import cached_similar_products
from tests.shop_similarity.shops import direction, make_shop, names

pytestmark = pytest.mark.django_db

# Each yields "asked", "first" and "second" of six products; the others of their families come after them by name.
KINDS: dict[str, Callable[[], QuerySet]] = {
    "plain": lambda: _shown().all(),
    "ordered": lambda: _shown().order_by("-price", "name"),
    "distinct": lambda: _shown().filter(photos__isnull=False).distinct(),
    "distinct on": lambda: Product.objects.order_by("description", "name").distinct("description"),
    "sliced": lambda: Product.objects.order_by("stock", "pk")[:3],
    "sliced in the middle": lambda: Product.objects.order_by("-stock", "pk")[3:6],
    "union": lambda: _shown().filter(name="asked").union(_shown().exclude(name="asked")),
    "ordered union": lambda: _shown().filter(name="asked").union(_shown().exclude(name="asked")).order_by("name"),
    "sliced union": lambda: _shown().union(Product.objects.all()).order_by("stock", "pk")[:3],
    "sliced union with nothing": lambda: _shown().union(Product.objects.none()).order_by("stock", "pk")[:5],
    "union of annotated": lambda: (
        _shown().annotate(n=Upper("name")).union(_shown().annotate(n=Upper("name")), all=True)
    ),
    "intersection": lambda: Product.objects.all().intersection(_shown()),
    "difference": lambda: Product.objects.all().difference(Product.objects.filter(stock__gt=0)),
    # Django 6.1 itself asks Postgres for two orders of a union of which one part alone is left, and that is ordered.
    "union with nothing": lambda: _shown().order_by().union(Product.objects.none()),
    "only": lambda: _shown().only("name"),
    "defer": lambda: _shown().defer("description"),
    "extra": lambda: Product.objects.extra(
        select={"upper": "upper(catalog_product.name)"}, where=["stock = %s"], params=[0], order_by=["upper"]
    ),
    "annotated": lambda: _shown().annotate(upper=Upper("name")).order_by("upper"),
    "aggregated": lambda: Product.objects.annotate(n=Count("photos")).filter(n__gt=0, stock=0),
    "aggregated apart": lambda: Product.objects.alias(n=Count("photos", filter=Q(stock=0))).filter(n=1),
    "window": lambda: Product.objects.annotate(
        place=Window(RowNumber(), partition_by=F("description"), order_by="name")
    ).filter(place=1),
    "locked": lambda: _shown().select_for_update(),
    "related": lambda: _shown().select_related("category").prefetch_related("photos"),
    "alias": lambda: _shown().using(database.write_alias()),
    "joined twice": lambda: Product.objects.filter(stock=0, category__products__stock__gte=0),
    "reversed": lambda: _shown().order_by("name").reverse(),
}
UNUSABLE: dict[str, Callable[[], QuerySet]] = {
    "values": lambda: Product.objects.values("pk", "name"),
    "values_list": lambda: Product.objects.values_list("pk", flat=True),
    "named values": lambda: Product.objects.values_list("pk", named=True),
    "dates": lambda: Product.objects.datetimes("created_at", "day"),
    "grouped": lambda: Product.objects.values("category").annotate(n=Count("pk")),
    "union of values": lambda: Product.objects.values("pk").union(Product.objects.values("pk")),
}
EXPECTED = {"first", "second"}
_returned: dict[str, Callable[[], QuerySet]] = {}


def _shown() -> QuerySet:
    return Product.objects.filter(stock=0)


def products() -> QuerySet:
    """What the PRODUCTS setting names."""
    return _returned["queryset"]()


@pytest.fixture
def shop(settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "PRODUCTS": f"{__name__}.products",
        "PRICE": "price",
        "CATEGORY_BOOST": 0.0,
    }
    # What is behind the first of its family is nearer to "asked" than all that may be shown.
    similar = {"asked": 1, "asked twice": 0.95, "first": 0.5, "first twice": 0.9, "second": 0.4, "second twice": 0.85}
    made = make_shop({name: {"x": cosine} for name, cosine in similar.items()}, price=5)
    for name, product in made.items():
        family, _blank, twice = name.partition(" ")
        Product.objects.filter(pk=product.pk).update(description=family, stock=9 if twice else 0)
    yield made
    _returned.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_every_search_finds_what_the_queryset_holds(shop, kind, settings):
    _returned["queryset"] = KINDS[kind]
    asked = shop["asked"]
    assert {p.pk for p in KINDS[kind]()} == {shop[name].pk for name in ("asked", "first", "second")}
    assert names(similar_products(asked)) == ["first", "second"]
    assert names(similar_products(asked, among=KINDS[kind]())) == ["first", "second"]
    filtered = SearchOptions(filters=Filters(categories=[asked.category_id], price_max=9))
    assert names(similar_products(asked, options=filtered)) == ["first", "second"]
    assert names(similar_products(asked, options=SearchOptions(limit=1, offset=1))) == ["second"]
    assert set(names(similar_to_several([asked, shop["first twice"]]))) == EXPECTED
    assert set(names(search_by_vector(direction("x"), among=KINDS[kind]()))) == EXPECTED | {"asked"}
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "WIDGET_CACHE_SECONDS": 60}
    for _ in range(2):
        assert names(cached_similar_products(asked, 2)) == ["first", "second"]
    # A pinned product is shown if the queryset holds it.
    for name in ("first twice", "second"):
        MerchandisingRule.objects.create(kind="pin", target_product_id=shop[name].pk, position=1)
    assert names(similar_products(asked)) == ["second", "first"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_shows_what_the_queryset_holds(shop, kind, admin_client):
    _returned["queryset"] = KINDS[kind]
    client, asked = Client(), shop["asked"]
    widget = Template("{% load shop_similarity %}{% similar_products product heading=title filters=True %}")
    page = widget.render(Context({"product": asked, "title": "Look-alikes"}))
    fragment = client.get(reverse("shop_similarity:similar-products", args=[asked.pk]))
    assert fragment.status_code == 200
    for html in (page, fragment.content.decode()):
        assert [name for name in shop if f"/{shop[name].slug}/" in html] == ["first", "second"]
    assert client.get(reverse("shop_similarity:similar-products", args=[shop["first twice"].pk])).status_code == 404
    answer = client.get(reverse("shop_similarity_api:similar-products", args=[asked.pk]))
    assert [result["name"] for result in answer.json()["results"]] == ["first", "second"]
    answer = client.get(reverse("shop_similarity_api:similar-products", args=[shop["first twice"].pk]))
    assert answer.status_code == 404
    basket = client.get(
        reverse("shop_similarity_api:similar-to-several"), {"product": [shop[n].pk for n in ("asked", "first twice")]}
    ).json()
    assert basket["products"] == [str(asked.pk)]
    assert basket["unknown"] == [str(shop["first twice"].pk)]
    for name, query in (("shop_similarity_product", ""), ("shop_similarity_products", "?q=asked")):
        url = reverse(f"admin:{name}", args=[asked.pk] if name.endswith("product") else [])
        assert admin_client.get(url + query).status_code == 200
    assert check_database(databases=[database.write_alias()]) == []


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_yields_no_products_is_refused_with_a_sentence(shop, kind):
    _returned["queryset"] = UNUSABLE[kind]
    (found,) = check_database(databases=[database.write_alias()])
    assert found.id == "shop_similarity.E014"
    assert "returned no instances" in found.msg
    assert "leave values(), values_list() or dates() out" in found.msg
    with pytest.raises(UnusableQuerysetError, match="no instances"):
        similar_products(shop["asked"], among=UNUSABLE[kind]())


@pytest.mark.parametrize("returned", [None, [], Product, "x"])
def test_what_is_no_queryset_is_refused_with_a_sentence(shop, returned):
    _returned["queryset"] = lambda: returned
    (found,) = check_database(databases=[database.write_alias()])
    assert found.id == "shop_similarity.E014"
    assert "Return a queryset of catalog.Product" in found.hint


def test_what_was_prefetched_stays_so(shop, django_assert_num_queries):
    related = filterable(Product.objects.order_by("pk").select_related("category").prefetch_related("photos")[:3])
    with django_assert_num_queries(2):
        for product in related:
            assert product.category.name
            assert len(product.photos.all()) == 1
