"""The form and the list of a merchandiser's rules."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from catalog.models import Category, Product
from shop_similarity.admin.rule_form import category_labels
from shop_similarity.models import MerchandisingRule
from shop_similarity.search import similar_products
from tests.shop_similarity.factories import make_category, make_product
from tests.shop_similarity.shops import names

pytestmark = pytest.mark.django_db

ADD = "admin:shop_similarity_merchandisingrule_add"
LIST = "admin:shop_similarity_merchandisingrule_changelist"
ALL = tuple(f"shop_similarity.{name}_merchandisingrule" for name in ("view", "add", "change", "delete"))


def form(**values) -> dict:
    return {
        "kind": "pin",
        "product_id": "",
        "category": "",
        "target_product_id": "",
        "target_category": "",
        "position": "",
        "boost": "",
        "is_on": "on",
        "starts_at_0": "",
        "starts_at_1": "",
        "ends_at_0": "",
        "ends_at_1": "",
        "note": "",
    } | values


def errors(response) -> dict[str, list[str]]:
    assert response.status_code == 200, "the form was accepted"
    return {name: list(found) for name, found in response.context["adminform"].form.errors.items()}


@pytest.fixture
def client(staff):
    return staff(*ALL, "catalog.view_product")


@pytest.fixture
def pair(db) -> tuple[Product, Product]:
    return make_product("Asked"), make_product("Target")


def test_a_rule_is_made_and_counts(client, shop):
    values = form(product_id=shop["Asked"].pk, target_product_id=shop["Farthest"].pk, position=1, boost="0.5")
    response = client.post(reverse(ADD), values)
    assert response.status_code == 302, errors(response)
    rule = MerchandisingRule.objects.get()
    assert (rule.product_id, rule.target_product_id, rule.position) == (shop["Asked"].pk, shop["Farthest"].pk, 1)
    assert rule.boost is None, "a pin has no weight"
    assert names(similar_products(shop["Asked"]))[0] == "Farthest"
    page = client.get(reverse("admin:shop_similarity_merchandisingrule_change", args=[rule.pk])).content.decode()
    assert f'<option value="{shop["Farthest"].pk}" selected>Farthest</option>' in page


def test_what_a_rule_lacks_is_said(client, pair):
    asked, target = pair
    category = str(asked.category_id)
    cases = [
        ({}, {"target_product_id": "Choose the product to pin."}),
        ({"kind": "hide"}, {"target_product_id": "Choose the product to hide, or a category below."}),
        (
            {"kind": "boost", "target_product_id": target.pk},
            {"boost": "Say how much it is boosted: 0.1 lifts it a little, 0.5 much, -0.2 demotes it."},
        ),
        (
            {"kind": "hide", "target_product_id": target.pk, "target_category": category},
            {"target_category": "Choose a product or a category, not both."},
        ),
        (
            {"product_id": asked.pk, "target_product_id": asked.pk},
            {"target_product_id": "A product is no look-alike of itself: choose another one."},
        ),
        ({"target_product_id": "987654"}, {"target_product_id": "There is no product with the key 987654."}),
        ({"target_product_id": "nonsense"}, {"target_product_id": "There is no product with the key nonsense."}),
        (
            {"product_id": asked.pk, "category": category, "target_product_id": target.pk},
            {
                "category": "Choose a product or a category, not both; with neither of them the rule holds for all "
                "products."
            },
        ),
        (
            {
                "target_product_id": target.pk,
                "starts_at_0": "2030-02-01",
                "starts_at_1": "00:00",
                "ends_at_0": "2030-01-01",
                "ends_at_1": "00:00",
            },
            {"ends_at": "The end must come after the beginning."},
        ),
        ({"target_product_id": target.pk, "position": 0}, {"position": None}),
        ({"kind": "boost", "target_product_id": target.pk, "boost": 2}, {"boost": None}),
    ]
    for values, expected in cases:
        found = errors(client.post(reverse(ADD), form(**values)))
        assert set(found) == set(expected), (values, found)
        for name, sentence in expected.items():
            assert sentence is None or found[name] == [sentence]
    assert not MerchandisingRule.objects.exists()


def test_a_rule_is_not_made_twice(client, pair):
    values = form(product_id=pair[0].pk, target_product_id=pair[1].pk)
    client.post(reverse(ADD), values)
    assert "There is such a rule already" in errors(client.post(reverse(ADD), values))["__all__"][0]


def test_categories_are_chosen_by_their_paths(client, pair):
    men, women = (Category.objects.create(name=name, slug=name.lower()) for name in ("Men", "Women"))
    tops = [Category.objects.create(name="Tops", slug=f"{parent.slug}-tops", parent=parent) for parent in (men, women)]
    for category in tops:
        make_product(category=category)
    Category.objects.create(name="Empty", slug="empty")
    assert list(category_labels().items()) == [
        (str(men.pk), "Men"),
        (str(tops[0].pk), "Men / Tops"),
        (str(pair[0].category_id), "Things"),
        (str(women.pk), "Women"),
        (str(tops[1].pk), "Women / Tops"),
    ]
    response = client.post(reverse(ADD), form(kind="hide", category=str(tops[0].pk), target_category=str(tops[1].pk)))
    assert response.status_code == 302
    rule = MerchandisingRule.objects.get()
    assert (rule.category, rule.target_category) == (str(tops[0].pk), str(tops[1].pk))
    # A rule outlives the products of its category.
    Product.objects.filter(category=tops[1]).delete()
    change = reverse("admin:shop_similarity_merchandisingrule_change", args=[rule.pk])
    assert "(no product has it now)" in client.get(change).content.decode()
    values = form(kind="hide", category=str(tops[0].pk), target_category=str(tops[1].pk), note="still")
    assert client.post(change, values).status_code == 302


def test_without_categories_in_the_settings_the_form_has_none(client, pair, settings):
    settings.SHOP_SIMILARITY = settings.SHOP_SIMILARITY | {"CATEGORY": None}
    page = client.get(reverse(ADD)).content.decode()
    assert 'name="target_category"' not in page and 'name="category"' not in page
    assert client.post(reverse(ADD), form(target_product_id=pair[1].pk)).status_code == 302


def test_products_are_searched_as_in_the_shops_own_admin(client, staff, pair):
    url = reverse("admin:shop_similarity_find_products")
    found = client.get(url, {"term": pair[1].sku}).json()["results"]
    assert found == [{"id": str(pair[1].pk), "text": "Target"}]
    assert staff(*ALL).get(url, {"term": "Target"}).status_code == 403, "who may not see products can't search them"
    assert f'data-ajax--url="{url}"' in client.get(reverse(ADD)).content.decode()


def test_without_an_admin_of_the_products_their_keys_are_typed(client, staff, pair):
    model_admin = admin.site._registry.pop(Product)
    try:
        rule = MerchandisingRule.objects.create(kind="pin", target_product_id=pair[1].pk)
        change = reverse("admin:shop_similarity_merchandisingrule_change", args=[rule.pk])
        page = client.get(change).content.decode()
        assert f'<input type="text" name="target_product_id" value="{pair[1].pk}"' in page
        assert ">Target</span>" in page
        assert client.get(reverse("admin:shop_similarity_find_products")).status_code == 404
        found = errors(client.post(change, form(target_product_id="nonsense")))
        assert found == {"target_product_id": ["There is no product with the key nonsense."]}
        assert client.post(change, form(target_product_id=pair[1].pk)).status_code == 302
    finally:
        admin.site._registry[Product] = model_admin


def test_the_list_tells_what_is_in_force(client, pair):
    now, day = timezone.now(), timedelta(days=1)
    asked, target = pair
    make = MerchandisingRule.objects.create
    make(kind="pin", product_id=asked.pk, target_product_id=target.pk, position=3)
    make(kind="hide", target_product_id=target.pk, starts_at=now + day)
    make(kind="boost", target_category=str(target.category_id), boost=-0.2, ends_at=now - day)
    make(kind="hide", product_id=target.pk, target_product_id=424242, is_on=False)
    page = client.get(reverse(LIST)).content.decode()
    texts = ["position 3", "coming ", "ended ", "switched off", "-0.2", "all products", "category Things"]
    for text in [*texts, "product 424242, which is gone", reverse("admin:shop_similarity_product", args=[asked.pk])]:
        assert text in page, text
    for when, kind in (("now", "Pin"), ("coming", "Hide"), ("ended", "Boost"), ("off", "Hide")):
        page = client.get(reverse(LIST), {"when": when}).content.decode()
        assert page.count('name="_selected_action"') == 1, when
        assert f">{kind.lower()}</a>" in page


def test_the_list_links_only_to_what_the_user_may_see(staff, pair):
    asked, target = pair
    MerchandisingRule.objects.create(kind="pin", product_id=asked.pk, target_product_id=target.pk)
    page = reverse("admin:shop_similarity_product", args=[asked.pk])
    view = "shop_similarity.view_merchandisingrule"
    for client, sees in ((staff(view), False), (staff(view, "catalog.view_product"), True)):
        html = client.get(reverse(LIST)).content.decode()
        assert str(asked) in html and (f'href="{page}"' in html) is sees


def test_the_list_asks_as_often_for_many_rules_as_for_few(client, pair):
    def rule() -> None:
        MerchandisingRule.objects.create(
            kind="pin", product_id=make_product().pk, target_product_id=make_product(category=make_category()).pk
        )

    rule()
    client.get(reverse(LIST))
    with CaptureQueriesContext(connection) as few:
        client.get(reverse(LIST))
    for _number in range(10):
        rule()
    with CaptureQueriesContext(connection) as many:
        client.get(reverse(LIST))
    assert len(many) == len(few) <= 12


def test_rules_need_their_permissions(staff, pair):
    client = staff("catalog.view_product", "shop_similarity.view_merchandisingrule")
    assert client.get(reverse(LIST)).status_code == 200
    assert client.get(reverse(ADD)).status_code == 403
    assert client.post(reverse(ADD), form(target_product_id=pair[1].pk)).status_code == 403
    assert not MerchandisingRule.objects.exists()
