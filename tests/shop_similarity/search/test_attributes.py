"""Brand and material beside the picture: the same only, others only, or worth something in the ranking."""

from __future__ import annotations

import pytest
from django.core import checks
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from catalog.models import Product
from shop_similarity.conf import problems
from shop_similarity.models import MerchandisingRule
from shop_similarity.search import SearchOptions, paths, search_by_vector, similar_products, similar_to_several
from shop_similarity.search.cache import cached_similar_products
from shop_similarity.storefront.context import widget_context
from shop_similarity.storefront.options import Choices, WidgetOptions
from tests.shop_similarity.shops import PATHS, direction, make_shop, names

pytestmark = pytest.mark.django_db


def brand_in_capitals():
    return F("description")


WAYS = {
    "path": "description",
    "paths": ("photos__caption", "name"),
    "callable": "tests.shop_similarity.search.test_attributes.brand_in_capitals",
    # A product may have several values.
    "many": "photos__caption",
}


@pytest.fixture(params=list(WAYS))
def way(request):
    return request.param


@pytest.fixture
def shop(settings, way) -> dict[str, Product]:
    """Seen from a, less similar one after the other; a, c, e are of one brand, f has none."""
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "DIVERSITY": 0.0,
        "CATEGORY_BOOST": 0.0,
        "ATTRIBUTES": {"brand": WAYS[way], "material": "category__name"},
    }
    paths.forget_paths()
    made = make_shop({name: {"x": cosine} for name, cosine in zip("abcdef", (1, 0.9, 0.8, 0.7, 0.6, 0.5), strict=True)})
    for name, brand in zip("abcde", ("ours", "theirs", "ours", "theirs", "ours"), strict=True):
        Product.objects.filter(pk=made[name].pk).update(description=brand)
        made[name].photos.update(caption=brand)
    return made


def found(product: Product, **options) -> list[str]:
    return names(similar_products(product, options=SearchOptions(**options)))


def rule(kind: str, attribute: str = "brand", **values) -> MerchandisingRule:
    return MerchandisingRule.objects.create(kind=kind, attribute=attribute, **values)


@pytest.mark.parametrize("path", PATHS)
def test_the_same_and_others(settings, shop, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path]}
    assert found(shop["a"], same="brand") == ["c", "e"]
    assert found(shop["a"], other=("brand",)) == ["b", "d", "f"]
    assert names(similar_to_several([shop["b"], shop["d"]], options=SearchOptions(same="brand"))) == []
    assert names(cached_similar_products(shop["b"], options=SearchOptions(other="brand"))) == ["a", "c", "e", "f"]


def test_without_a_value_nothing_is_the_same_and_everything_another(shop):
    assert found(shop["f"], same="brand") == []
    assert found(shop["f"], other="brand") == found(shop["f"])


def test_a_photo_has_no_brand(shop):
    options = SearchOptions(same="brand")
    assert len(search_by_vector(direction("x"), options=options)) == 6


@pytest.mark.parametrize("path", PATHS)
def test_a_rule_weighs_it_beside_the_picture(settings, shop, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path]}
    made = rule("share", boost=0.15)
    assert found(shop["a"]) == ["c", "b", "e", "d", "f"]
    similar = similar_products(shop["a"])
    assert similar[0].similarity == pytest.approx(0.8, abs=0.01), "what is shown stays the cosine"
    assert found(shop["a"], rules=False) == ["b", "c", "d", "e", "f"]
    made.boost = -0.25
    made.save()
    assert found(shop["a"]) == ["b", "d", "c", "f", "e"]


def test_what_is_far_away_is_lifted_too(shop, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS["codes"], "CANDIDATES": 10}
    rule("share", boost=1.0)
    assert found(shop["a"], limit=2) == ["c", "e"]


def test_rules_that_restrict_and_the_more_specific_one(shop):
    rule("same")
    assert found(shop["a"]) == ["c", "e"]
    rule("other", product_id=shop["a"].pk)
    assert found(shop["a"]) == ["b", "d", "f"]
    assert found(shop["c"]) == ["a", "e"]
    # It is of the rules beside it, and of pins.
    MerchandisingRule.objects.create(kind="hide", target_product_id=shop["b"].pk)
    MerchandisingRule.objects.create(kind="pin", target_product_id=shop["e"].pk)
    assert found(shop["a"]) == ["d", "f"]


def test_an_attribute_that_is_gone_says_nothing(shop, settings):
    for kind in ("same", "share"):
        rule(kind, "maker", boost=1.0)
    assert found(shop["a"]) == ["b", "c", "d", "e", "f"]
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ATTRIBUTES": None}
    assert found(shop["a"]) == ["b", "c", "d", "e", "f"]
    with pytest.raises(ValueError, match="no attribute 'brand'"):
        SearchOptions(same="brand")


def test_without_such_a_rule_nothing_is_asked(shop):
    similar_products(shop["a"])
    with CaptureQueriesContext(connection) as without:
        similar_products(shop["a"])
    rule("share", boost=0.1)
    similar_products(shop["a"])
    with CaptureQueriesContext(connection) as beside:
        similar_products(shop["a"])
    assert len(beside) == len(without) + 2


def test_widget_api_and_fragment(shop, client):
    address = f"/api/similarity/v1/products/{shop['a'].pk}/similar/"
    assert [row["name"] for row in client.get(address, {"same": "brand"}).json()["results"]] == ["c", "e"]
    assert client.get(address, {"other": ["brand", "material"]}).json()["results"] == []
    assert client.get(address, {"same": "maker"}).status_code == 422
    options = WidgetOptions(same="brand")
    request = RequestFactory().get("/")
    context = widget_context(shop["a"], options, Choices(), request=request, address=None)
    assert names(card.product for card in context["cards"]) == ["c", "e"]
    assert WidgetOptions.of_signed(options.signed()) == options


def test_alternatives_are_shown_where_the_product_is_sold_out(shop, client, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": "stock"}
    Product.objects.exclude(pk=shop["a"].pk).update(stock=1)
    address = "/api/similarity/v1/products/{}/similar/?alternatives=true".format
    assert len(client.get(address(shop["a"].pk)).json()["results"]) == 5
    assert client.get(address(shop["b"].pk)).json()["results"] == []
    contexts = [
        widget_context(shop[name], WidgetOptions(alternatives=True), Choices(), request=None, address=None)
        for name in "ab"
    ]
    assert contexts[1] is None
    assert len(contexts[0]["cards"]) == 5


def test_a_rule_has_one_target(shop):
    with pytest.raises(IntegrityError), transaction.atomic():
        rule("share", boost=0.1, target_product_id=shop["b"].pk)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [({"Brand": "brand"}, "no name"), ({"brand": 3}, "field path"), ({"brand": []}, "field path"), ("brand", "dict")],
    ids=str,
)
def test_settings_that_are_wrong(settings, attributes, said):
    (problem,) = problems({**settings.SHOP_SIMILARITY, "ATTRIBUTES": attributes})
    assert said in problem.hint


def test_a_path_that_leads_nowhere_is_an_error(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ATTRIBUTES": {"brand": "maker"}}
    (error,) = [found for found in checks.run_checks() if found.id == "shop_similarity.E004"]
    assert "'maker'" in error.msg
