"""Search by words."""

import pytest

from catalog.products import visible_products
from catalog.searching import search_products
from tests.catalog.html_page import Page

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(make_product):
    make_product("Red Running Jacket", "Men / Jackets", sku="RJ-100", photos=0)
    make_product("Blue Mug", "Kitchen", sku="MUG-7", photos=0)
    make_product("Tea for Two", "Kitchen", sku="TEA", photos=0)
    make_product("Jacket Hanger", "Home", sku="H-1", photos=0)
    make_product("100% Wool_Hat", "Hats", sku="W-1", photos=0)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("mug", ["Blue Mug"]),
        ("MUGS", ["Blue Mug"]),
        ("jackets", ["Red Running Jacket", "Jacket Hanger"]),
        ("run jacket", ["Red Running Jacket", "Jacket Hanger"]),
        ("ug", ["Blue Mug"]),
        ("mug-7", ["Blue Mug"]),
        ("rj-1", ["Red Running Jacket"]),
        ("kitchen", ["Blue Mug", "Tea for Two"]),
        ("runing jaket", ["Red Running Jacket"]),
        ("100%", ["100% Wool_Hat"]),
        ("l_h", ["100% Wool_Hat"]),
        ("%", ["100% Wool_Hat"]),
        ("spaceship", []),
        ("", []),
        ("   ", []),
        ("\x00", []),
        ("' OR 1=1 --", []),
        ("x" * 5000, []),
    ],
)
def test_finds(shop, words, names):
    assert [product.name for product in search_products(visible_products(), words)] == names


def test_the_page_keeps_the_words_and_can_sort(client, shop):
    page = Page(client.get("/search/", {"q": "jacket", "sort": "name"}).content.decode())
    assert [e.text for e in page.all("h3")] == ["Jacket Hanger", "Red Running Jacket"]
    assert page.one("input", id="search")["value"] == "jacket"
    assert page.one("input", type="hidden")["value"] == "jacket"
