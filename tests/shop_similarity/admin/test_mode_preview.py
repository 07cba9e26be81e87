"""What a mode of the template or a weighed attribute would show, before a page or a rule uses it."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

import catalog.settings
from catalog.models import Product
from shop_similarity.models import MerchandisingRule, ModelVersion

pytestmark = pytest.mark.django_db

IN_STOCK = catalog.settings.SHOP_SIMILARITY["IN_STOCK"]
ADD, VIEW = "shop_similarity.add_merchandisingrule", "catalog.view_product"


@pytest.fixture
def client(staff) -> Client:
    return staff(ADD, VIEW)


@pytest.fixture
def brands(settings, shop):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "ATTRIBUTES": {"brand": "description"},
        "IN_STOCK": IN_STOCK,
    }
    Product.objects.update(stock=1)
    Product.objects.filter(name__in=["Asked", "Far"]).update(description="ours")
    return shop


def page(client: Client, product: Product, **parameters):
    return client.get(reverse("admin:shop_similarity_modes", args=[product.pk]), parameters)


def lists(response) -> list[list[str]]:
    """The names now and with the mode."""
    assert response.status_code == 200
    assert response.templates[0].name == "shop_similarity/admin/modes.html"
    return [[str(cell.place.product) for cell in cells] for _title, cells in response.context["row"].lists]


NOW = ["Near", "Middle", "Far", "Farthest"]


@pytest.mark.parametrize(
    ("parameters", "shown", "tag"),
    [
        ({}, NOW, "{% similar_products product %}"),
        ({"mode": "same", "attribute": "brand"}, ["Far"], '{% similar_products product same="brand" %}'),
        (
            {"mode": "other", "attribute": "brand"},
            ["Near", "Middle", "Farthest"],
            '{% similar_products product other="brand" %}',
        ),
        (
            {"mode": "same", "attribute": "brand", "alternatives": "on"},
            ["Far"],
            '{% similar_products product alternatives=True same="brand" %}',
        ),
        ({"mode": "share", "attribute": "brand", "weight": "0.9"}, ["Far", "Near", "Middle", "Farthest"], ""),
    ],
)
def test_the_list_now_and_with_the_mode(client, brands, parameters, shown, tag):
    response = page(client, brands["Asked"], **parameters)
    assert lists(response) == [NOW, shown]
    assert response.context["tag"] == tag
    assert not MerchandisingRule.objects.exists(), "a weight is looked at, and kept nowhere"


def test_the_link_makes_the_rule_that_was_looked_at(client, brands):
    response = page(client, brands["Asked"], mode="share", attribute="brand", weight="0.9")
    form = client.get(response.context["rule_url"]).context["adminform"].form
    assert {name: form[name].value() for name in ("kind", "attribute", "boost")} == {
        "kind": "share",
        "attribute": "brand",
        "boost": "0.9",
    }
    assert form["product_id"].value() == str(brands["Asked"].pk)


def test_alternatives_say_whether_they_are_shown_now(client, shop, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": IN_STOCK}
    Product.objects.update(stock=1)
    assert "only when it is sold out" in page(client, shop["Asked"], alternatives="on").content.decode()
    Product.objects.filter(name="Asked").update(stock=0)
    response = page(client, shop["Asked"], alternatives="on")
    assert "its page shows this list" in response.content.decode()
    assert response.context["tag"] == "{% similar_products product alternatives=True %}"


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"mode": "same"}, "attribute"),
        ({"mode": "same", "attribute": "colour of the moon"}, "attribute"),
        ({"mode": "share", "attribute": "brand"}, "weight"),
        ({"mode": "share", "attribute": "brand", "weight": "7"}, "weight"),
        ({"mode": "share", "attribute": "brand", "weight": "nan"}, "weight"),
        ({"mode": "everything"}, "mode"),
    ],
)
def test_mistakes_are_said_beside_the_fields(client, brands, parameters, field):
    response = page(client, brands["Asked"], **parameters)
    assert list(response.context["form"].errors) == [field]
    assert response.context["row"] is None


def test_a_shop_is_asked_only_about_what_it_has(client, shop, settings):
    response = page(client, shop["Asked"])
    assert not response.context["form"].fields
    assert "neither ATTRIBUTES nor IN_STOCK" in response.content.decode()
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": IN_STOCK}
    assert list(page(client, shop["Asked"]).context["form"].fields) == ["alternatives"]


def test_it_is_one_click_from_the_look_alikes(client, staff, shop):
    own, modes = (reverse(f"admin:shop_similarity_{name}", args=[shop["Asked"].pk]) for name in ("product", "modes"))
    assert f'href="{modes}"' in client.get(own).content.decode()
    assert modes not in staff(VIEW).get(own).content.decode()


def test_who_may(staff, shop):
    assert page(staff(VIEW, "shop_similarity.change_merchandisingrule"), shop["Asked"]).status_code == 200
    assert page(staff(ADD), shop["Asked"]).status_code == 403
    assert page(staff(VIEW, "shop_similarity.view_merchandisingrule"), shop["Asked"]).status_code == 403
    assert page(Client(), shop["Asked"]).status_code == 302
    assert staff(ADD, VIEW).get("/admin/shop_similarity/modelversion/products/999999/modes/").status_code == 404


def test_without_an_active_version(client, shop):
    ModelVersion.objects.update(state="candidate")
    assert page(client, shop["Asked"]).context["row"] is None
