"""A rule shows what it would change before it is saved; the dashboard is one click from the admin's index."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from catalog.models import Product
from shop_similarity.models import MerchandisingRule, ModelVersion
from tests.shop_similarity.admin.test_rules import ADD, ALL, LIST, errors, form
from tests.shop_similarity.factories import make_category

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(staff):
    return staff(*ALL, "catalog.view_product")


def lists(response) -> list[list[str]]:
    """The names before and after, of the first product of a preview."""
    assert response.status_code == 200
    assert response.templates[0].name == "shop_similarity/admin/rule_preview.html"
    return [[str(cell.place.product) for cell in cells] for _title, cells in response.context["rows"][0].lists]


def preview(client, url=None, **values):
    return client.post(url or reverse(ADD), form(**values, _preview="1"))


def test_before_and_after_and_nothing_is_saved(client, shop):
    response = preview(client, product_id=shop["Asked"].pk, target_product_id=shop["Farthest"].pk, position=1)
    assert lists(response) == [["Near", "Middle", "Far", "Farthest"], ["Farthest", "Near", "Middle", "Far"]]
    assert not MerchandisingRule.objects.exists()
    # Its button saves what was shown.
    sent = dict(re.findall(r'<input type="hidden" name="(?!csrf)(\w+)" value="([^"]*)">', response.content.decode()))
    assert "_preview" not in sent
    assert client.post(reverse(ADD), {**sent, "_save": "1"}).status_code == 302
    assert MerchandisingRule.objects.get().position == 1


def test_a_changed_rule_is_compared_with_what_it_is_now(client, shop):
    rule = MerchandisingRule.objects.create(
        kind="pin", product_id=shop["Asked"].pk, target_product_id=shop["Far"].pk, position=1
    )
    url = reverse("admin:shop_similarity_merchandisingrule_change", args=[rule.pk])
    values = {"product_id": shop["Asked"].pk, "target_product_id": shop["Far"].pk}
    assert lists(preview(client, url, kind="hide", **values)) == [
        ["Far", "Near", "Middle", "Farthest"],
        ["Near", "Middle", "Farthest"],
    ]
    assert lists(preview(client, url, is_on="", position=1, **values))[1][0] == "Near", "switched off"
    rule.refresh_from_db()
    assert (rule.kind, rule.is_on) == ("pin", True)


def test_a_rule_of_the_future_counts_as_if_it_had_begun(client, shop):
    day = (timezone.now() + timedelta(days=3)).strftime("%Y-%m-%d")
    response = preview(
        client,
        kind="hide",
        product_id=shop["Asked"].pk,
        target_product_id=shop["Near"].pk,
        starts_at_0=day,
        starts_at_1="00:00:00",
    )
    assert lists(response)[1] == ["Middle", "Far", "Farthest"]


def test_attributes_and_rules_for_all(client, shop, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ATTRIBUTES": {"brand": "description"}}
    Product.objects.filter(name__in=["Asked", "Far"]).update(description="ours")
    response = preview(client, kind="share", attribute="brand", boost="0.9", product_id=shop["Asked"].pk)
    assert lists(response)[1][0] == "Far"
    assert lists(preview(client, kind="same", attribute="brand", product_id=shop["Asked"].pk))[1] == ["Far"]
    assert len(preview(client, kind="share", attribute="brand", boost="0.9").context["rows"]) == 3
    saved = client.post(reverse(ADD), form(kind="other", attribute="brand", target_product_id=shop["Far"].pk))
    assert saved.status_code == 302
    rule = MerchandisingRule.objects.get()
    assert (rule.attribute, rule.target_product_id) == ("brand", None)
    page = client.get(reverse(LIST)).content.decode()
    assert "brand" in page


def test_a_category(client, shop):
    category = make_category("Lamps")
    Product.objects.filter(name="Near").update(category=category)
    response = preview(client, kind="hide", category=category.pk, target_product_id=shop["Asked"].pk)
    assert [str(row.comparison.product) for row in response.context["rows"]] == ["Near"]


def test_mistakes_are_said_beside_the_fields(client, shop):
    response = preview(client, kind="boost", target_product_id=shop["Near"].pk)
    assert "boost" in errors(response)
    assert not MerchandisingRule.objects.exists()


def test_a_shop_without_attributes_is_not_asked_about_them(client, shop):
    page = client.get(reverse(ADD)).content.decode()
    assert 'value="share"' not in page
    assert "id_attribute" not in page
    assert 'name="_preview"' in page


def test_who_may(staff, shop):
    values = {"product_id": shop["Asked"].pk, "target_product_id": shop["Near"].pk}
    assert preview(staff("shop_similarity.add_merchandisingrule"), **values).status_code == 403
    assert preview(staff("shop_similarity.view_merchandisingrule", "catalog.view_product"), **values).status_code == 403
    assert preview(Client(), **values).status_code == 302


def test_the_button_is_there_for_whom_may_use_it(staff, shop):
    assert '"_preview"' not in staff("shop_similarity.add_merchandisingrule").get(reverse(ADD)).content.decode()


def test_products_move_in_the_second_list_alone(client, shop):
    pinned = {"kind": "pin", "target_product_id": shop["Farthest"].pk, "position": 1, "product_id": shop["Asked"].pk}
    page = preview(client, **pinned).content.decode()
    before, after = page.split('<ol class="shop-similarity-strip')[1:]
    assert "↑" not in before and "↓" not in before
    assert after.count("↑ 3") == 1 and after.count("↓ 1") == 3


def _marked(response) -> set[str]:
    return set(re.findall(r'<a href="([^"]*)" aria-current="page"', response.content.decode()))


class TestDashboard:
    def test_it_is_one_click_from_the_index(self, staff, shop):
        client = staff("shop_similarity.view_dashboard")
        page = client.get(reverse("admin:index")).content.decode()
        url = reverse("admin:shop_similarity_dashboard_changelist")
        assert f'href="{url}"' in page
        assert client.get(url, follow=True).templates[0].name == "shop_similarity/admin/dashboard.html"

    def test_its_own_entry_of_the_sidebar_is_marked(self, staff, shop):
        client = staff("shop_similarity.view_dashboard", "shop_similarity.view_modelversion")
        url = reverse("admin:shop_similarity_dashboard")
        own = reverse("admin:shop_similarity_dashboard_changelist")
        assert _marked(client.get(url)) == {own}
        versions = reverse("admin:shop_similarity_modelversion_changelist")
        assert _marked(client.get(versions)) == {versions}
        # A theme of the shop's own that marks entries by itself gets them as Django has them.
        entries = next(
            app for app in client.get(url).context["available_apps"] if app["app_label"] == "shop_similarity"
        )
        assert {entry["admin_url"] for entry in entries["models"]} == {own, versions}

    def test_pages_of_a_product_belong_to_the_shops_products(self, staff, shop):
        client = staff(
            "catalog.view_product", "shop_similarity.view_modelversion", "shop_similarity.add_merchandisingrule"
        )
        key = shop["Asked"].pk
        for name, arguments in (("products", []), ("product", [key]), ("modes", [key])):
            page = client.get(reverse(f"admin:shop_similarity_{name}", args=arguments))
            assert _marked(page) == {reverse("admin:catalog_product_changelist")}, name
            assert 'class="app-catalog module current-app"' in page.content.decode()
        compare = staff("shop_similarity.compare_modelversion", "shop_similarity.view_modelversion")
        page = compare.get(reverse("admin:shop_similarity_compare"))
        assert _marked(page) == {reverse("admin:shop_similarity_modelversion_changelist")}

    def test_others_are_not_shown_it(self, staff, shop):
        client = staff("shop_similarity.view_merchandisingrule")
        url = reverse("admin:shop_similarity_dashboard_changelist")
        assert url not in client.get(reverse("admin:index")).content.decode()
        assert client.get(url).status_code == 403

    def test_it_has_no_other_pages(self, shop):
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        index = reverse("admin:shop_similarity_dashboard_changelist")
        version = ModelVersion.objects.get()
        assert [client.get(f"{index}{page}").status_code for page in ("add/", f"{version.pk}/change/")] == [404, 404]
