"""A bound below which nothing is a look-alike."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.db import connection
from django.template import Context, Template
from django.test import Client
from django.test.utils import CaptureQueriesContext

from catalog.models import Product
from shop_similarity.models import MerchandisingRule
from shop_similarity.search import SearchOptions, paths, search_by_vector, similar_products, similar_to_several
from shop_similarity.search.cache import cached_similar_products
from tests.shop_similarity.shops import PATHS, direction, make_shop, names

COSINES = dict(zip("abcdef", (1, 0.9, 0.7, 0.5, 0.3, 0.1), strict=True))


@pytest.fixture(autouse=True)
def _no_kept_paths():
    paths.forget_paths()


@pytest.fixture
def shop() -> dict[str, Product]:
    return make_shop({name: {"x": cosine} for name, cosine in COSINES.items()})


def _bound(settings, **values) -> None:
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **values}


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_option_and_setting_leave_out_what_is_less_similar(settings, shop, path):
    _bound(settings, **PATHS[path])
    asked = shop["a"]
    assert names(similar_products(asked)) == ["b", "c", "d", "e", "f"]
    assert names(similar_products(asked, options=SearchOptions(min_similarity=0.4))) == ["b", "c", "d"]
    assert names(similar_products(asked, options=SearchOptions(min_similarity=0.95))) == []
    _bound(settings, MIN_SIMILARITY=0.6)
    assert names(similar_products(asked)) == ["b", "c"]
    assert names(similar_to_several([asked])) == ["b", "c"]
    # An option says more than the setting, also that there is no bound.
    assert names(similar_products(asked, options=SearchOptions(min_similarity=-1))) == ["b", "c", "d", "e", "f"]


@pytest.mark.django_db
def test_search_by_vector_has_no_bound_unless_asked_for(settings, shop):
    _bound(settings, MIN_SIMILARITY=0.6)
    assert names(search_by_vector(direction("x"))) == list("abcdef")
    assert names(search_by_vector(direction("x"), options=SearchOptions(min_similarity=0.6))) == ["a", "b", "c"]


@pytest.mark.django_db
def test_preferred_products_do_not_pass_by_what_is_added_to_them_but_pinned_ones_stay(settings, shop):
    _bound(settings, MIN_SIMILARITY=0.6)
    asked = {"product_id": shop["a"].pk}
    MerchandisingRule.objects.create(kind="boost", boost=1.0, target_product_id=shop["e"].pk, **asked)
    MerchandisingRule.objects.create(kind="pin", target_product_id=shop["f"].pk, **asked)
    found = similar_products(shop["a"])
    assert names(found) == ["f", "b", "c"]
    assert [product.pinned for product in found] == [True, False, False]


@pytest.mark.django_db
def test_pages_fit_together_and_nothing_is_searched_in_vain():
    """130 products, of which the bound leaves 110: more than a pool holds."""
    cosines = {f"p{number:03}": {"x": 0.99 - number * 0.002} for number in range(110)}
    cosines |= {f"q{number:03}": {"x": 0.2} for number in range(20)}
    shop = make_shop({"asked": {"x": 1.0}} | cosines)
    options = {"min_similarity": 0.7, "diversity": 0.0, "collapse": False}
    whole = names(similar_products(shop["asked"], options=SearchOptions(limit=130, **options)))
    assert len(whole) == 110
    assert not any(name.startswith("q") for name in whole)
    pages = [
        names(similar_products(shop["asked"], options=SearchOptions(limit=25, offset=offset, **options)))
        for offset in range(0, 126, 25)
    ]
    assert [name for page in pages for name in page] == whole
    with CaptureQueriesContext(connection) as queries:
        assert names(similar_products(shop["asked"], options=SearchOptions(limit=8, min_similarity=0.985))) != []
    assert sum("compared AS" in query["sql"] for query in queries) == 1


@pytest.mark.django_db
def test_widget_falls_back_where_nothing_is_similar_enough(settings, shop):
    def rendered(options: str) -> str:
        source = f"{{% load shop_similarity %}}{{% similar_products product {options} %}}"
        return Template(source).render(Context({"product": shop["a"]}))

    _bound(settings, FALLBACK=None)
    assert rendered("min_similarity=0.6").count("<li") == 2
    assert rendered("min_similarity='0.95'").strip() == ""
    _bound(settings, MIN_SIMILARITY=0.95, FALLBACK="tests.shop_similarity.search.test_min_similarity.newest")
    assert rendered("").count("<li") == 3
    with pytest.raises(ValueError, match="min_similarity"):
        rendered("min_similarity='much'")


def newest(product: Product, limit: int) -> list[Product]:
    return list(Product.objects.order_by("-pk")[:3])


@pytest.mark.django_db
def test_short_list_is_kept_where_the_bound_is_the_reason(settings, shop):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "bound"}}
    cache.clear()
    _bound(settings, WIDGET_CACHE_SECONDS=60, MIN_SIMILARITY=0.6)
    searches = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert names(cached_similar_products(shop["a"], 8)) == ["b", "c"]
        searches.append(sum("compared AS" in query["sql"] for query in queries))
    assert searches == [1, 0]
    # A product that went is missed, and the search is done anew.
    shop["b"].delete()
    assert names(cached_similar_products(shop["a"], 8)) == ["c"]


@pytest.mark.django_db
def test_api_takes_it(shop):
    address = f"/api/similarity/v1/products/{shop['a'].pk}/similar/"
    answer = Client().get(address, {"min_similarity": "0.6"})
    assert [result["name"] for result in answer.json()["results"]] == ["b", "c"]
    assert answer.json()["next"] is None
    assert Client().get(address, {"min_similarity": "1.5"}).status_code == 400


@pytest.mark.parametrize("value", [-1.1, 1.5, float("nan")])
def test_no_cosine_is_told(value):
    with pytest.raises(ValueError, match="min_similarity"):
        SearchOptions(min_similarity=value)
