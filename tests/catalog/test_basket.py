"""The basket: what goes in, what cannot, and what is left when a product changes."""

import pytest
from django.test import Client

from catalog.models import Product
from tests.catalog.html_page import Page

pytestmark = pytest.mark.django_db


def lines(client) -> dict[str, str]:
    page = Page(client.get("/basket/").content.decode())
    names = [e.text for e in page.all("h2")]
    return dict(zip(names, [e["value"] for e in page.all("input", type="number")], strict=True))


def test_adding_the_same_product_counts_up(client, make_product):
    mug = make_product("Mug", price="12.50")
    for _time in range(2):
        response = client.post(f"/basket/{mug.pk}/", follow=True)
    assert "Mug is in your basket." in response.content.decode()
    assert lines(client) == {"Mug": "2"}
    assert "$25.00" in response.content.decode()
    assert "Basket2 items" in Page(client.get("/").content.decode()).one("header").text.replace("\n", "").replace(
        "  ", ""
    )


def test_never_more_than_is_in_stock(client, make_product):
    rare = make_product("Rare", stock=2)
    response = client.post(f"/basket/{rare.pk}/", {"quantity": "5"}, follow=True)
    assert "There is no more of Rare in stock." in response.content.decode()
    assert lines(client) == {"Rare": "2"}


@pytest.mark.parametrize("fields", [{"stock": 0}, {"price": None}])
def test_what_cannot_be_bought_does_not_go_in(client, make_product, fields):
    thing = make_product("Thing", **fields)
    response = client.post(f"/basket/{thing.pk}/", follow=True)
    assert "Thing cannot be bought at the moment." in response.content.decode()
    assert lines(client) == {}


@pytest.mark.parametrize("quantity", ["0", "-3"])
def test_taking_out(client, make_product, quantity):
    mug = make_product("Mug")
    client.post(f"/basket/{mug.pk}/")
    client.post(f"/basket/{mug.pk}/", {"quantity": quantity})
    assert lines(client) == {}


def test_a_quantity_that_is_no_number(client, make_product):
    mug = make_product("Mug")
    client.post(f"/basket/{mug.pk}/")
    response = client.post(f"/basket/{mug.pk}/", {"quantity": "many"}, follow=True)
    assert "whole number" in response.content.decode()
    assert lines(client) == {"Mug": "1"}


def test_what_is_gone_or_hidden_or_sold_out_leaves_the_list(client, make_product):
    things = [make_product(name) for name in ("Kept", "Gone", "Hidden", "Sold")]
    for thing in things:
        client.post(f"/basket/{thing.pk}/")
    things[1].delete()
    Product.objects.filter(name="Hidden").update(is_published=False)
    Product.objects.filter(name="Sold").update(stock=0)
    assert lines(client) == {"Kept": "1"}


def test_a_form_from_elsewhere_is_refused(make_product):
    mug = make_product("Mug")
    assert Client(enforce_csrf_checks=True).post(f"/basket/{mug.pk}/").status_code == 403


def test_only_forms_change_the_basket(client, make_product):
    assert client.get(f"/basket/{make_product().pk}/").status_code == 405
    assert client.post("/basket/999999/").status_code == 404


def test_more_lines_ask_no_more_queries(client, make_product, django_assert_num_queries):
    for _number in range(2):
        client.post(f"/basket/{make_product().pk}/")
    client.get("/basket/")
    with django_assert_num_queries(5):
        client.get("/basket/")
    for _number in range(5):
        client.post(f"/basket/{make_product().pk}/")
    client.get("/basket/")
    with django_assert_num_queries(5):
        client.get("/basket/")
