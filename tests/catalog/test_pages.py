"""The pages of the shop: that they answer, what they ask the database, and how they are built."""

import re

import pytest
from django.conf import settings
from django.db import connection
from django.template.loader import render_to_string
from django.test.utils import CaptureQueriesContext

from catalog.models import LoadedCatalogue, Product, ProductPhoto
from catalog.products import fallback_products, visible_products
from tests.catalog.html_page import Page

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(make_product):
    """A small shop with a tree of categories, prices, sold-out and hidden products."""
    LoadedCatalogue.objects.create(name="drawn", description="Drawn for the tests.")
    make_product("Red Tee", "Men / Tops", photos=3, description="Soft & warm.\n\nWash cold.")
    make_product("Blue Tee", "Men / Tops", price="1299.5", stock=3)
    make_product("Grey Pants", "Men / Bottoms", stock=0)
    make_product("Linen Dress", "Women / Dresses", price=None)
    make_product("Secret Dress", "Women / Secrets", is_published=False)
    make_product("Plain Mug", "Kitchen", photos=0)


def page(client, url: str, status: int = 200) -> Page:
    response = client.get(url)
    assert response.status_code == status
    return Page(response.content.decode())


def addresses() -> list[str]:
    return [
        "/",
        "/category/men/",
        "/category/men-tops/?sort=-price&page=1",
        "/search/",
        "/search/?q=tee",
        "/search/?q=zzzz",
        *(product.get_absolute_url() for product in visible_products()),
        "/basket/",
    ]


def test_every_page_is_sound_html_with_landmarks_and_nothing_inline(client, shop):
    for url in addresses():
        response = client.get(url)
        assert response.status_code == 200, url
        html = response.content.decode()
        found = Page(html)
        assert not found.mistakes, url
        for landmark in ("header", "main", "footer"):
            assert [e for e in found.all(landmark) if not e.is_in("main")], (url, landmark)
        assert len(found.all("h1")) == 1, url
        assert found.one("html")["lang"] == "en"
        assert found.one("title").text.strip()
        assert found.one("a", class_="skip")["href"] == "#" + found.one("main")["id"]
        ids = [e["id"] for e in found.elements if e["id"]]
        assert len(ids) == len(set(ids)), url
        labels = {label["for"] for label in found.all("label")}
        for control in found.all("input") + found.all("select"):
            assert control["type"] == "hidden" or control["id"] in labels, (url, control)
        for nav in found.all("nav"):
            assert nav["aria-label"], url
        assert not found.all("style"), url
        assert all(script["src"] and not script.text.strip() for script in found.all("script")), url
        for element in found.elements:
            assert "style" not in element.attributes, (url, element)
            assert not [name for name in element.attributes if name.startswith("on")], (url, element)
        assert not re.search(r"""(?:src|href)=["']https?://""", html), f"{url} fetches from elsewhere"
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]


def test_photos_have_a_size_an_alt_and_come_late(client, shop):
    for url in addresses():
        images = page(client, url).all("img")
        for image in images:
            assert image["alt"] is not None, url
            assert image["width"], url
            assert image["height"], url
            assert image["src"].endswith(".webp"), "the original is never sent"
            assert image["loading"] == "lazy" or image["fetchpriority"] == "high", url
    product = page(client, Product.objects.get(name="Red Tee").get_absolute_url())
    (first, *others) = [image for image in product.all("img") if image.is_in("figure")]
    assert first["fetchpriority"] == "high"
    assert [image["loading"] for image in others] == ["lazy", "lazy"]
    assert [image["alt"] for image in (first, *others)] == [f"Red Tee, photo {n} of 3" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "url", ["/", "/category/things/", "/search/?q=thing", "/product/thing-1/", "/admin/catalog/product/"]
)
def test_more_products_ask_no_more_queries(client, admin_client, make_product, django_assert_num_queries, url):
    browser = admin_client if url.startswith("/admin") else client
    for _number in range(3):
        make_product(photos=1)
    browser.get(url)
    with CaptureQueriesContext(connection) as queries:
        assert browser.get(url).status_code == 200
    few = len(queries)
    for _number in range(12):
        make_product(photos=3)
    browser.get(url)
    with django_assert_num_queries(few):
        assert browser.get(url).status_code == 200
    assert few <= 12


def test_product_page(client, shop):
    found = page(client, "/product/thing-1/")
    text = found.one("main").text
    assert found.one("h1").text == "Red Tee"
    assert "$10.00" in text
    assert "In stock" in text
    assert "T-1" in text
    assert [p.text for p in found.all("p") if "prose" not in p.text and p.text in ("Soft & warm.", "Wash cold.")]
    trail = found.inside("nav", aria_label="Breadcrumbs")
    assert [step.text for step in trail if step.tag == "li"] == ["Home", "Men", "Tops", "Red Tee"]
    assert found.one("form", method="post")["action"] == "/basket/1/".replace(
        "1", str(Product.objects.get(sku="T-1").pk)
    )
    figures = [figure["id"] for figure in found.all("figure")]
    anchors = [a["href"] for a in found.all("a") if (a["href"] or "").startswith("#photo-")]
    assert anchors == [f"#{figure}" for figure in figures] == ["#photo-1", "#photo-2", "#photo-3"]


def test_states_of_stock_and_price(client, shop):
    few = page(client, "/product/thing-2/")
    assert "Only 3 left" in few.one("main").text
    assert "$1,299.50" in few.one("main").text
    sold_out = page(client, "/product/thing-3/")
    assert "Sold out" in sold_out.one("main").text
    assert not sold_out.all("form", method="post")
    on_request = page(client, "/product/thing-4/")
    assert "Price on request" in on_request.one("main").text
    assert not on_request.all("form", method="post")


def test_a_product_without_an_embedding_is_followed_by_the_fallback(client, shop):
    names = [e.text for e in page(client, "/product/thing-1/").all("h3")]
    assert names == ["Blue Tee", "Plain Mug", "Linen Dress"]


def test_fallback_products(shop):
    tee = Product.objects.get(sku="T-1")
    assert [p.name for p in fallback_products(tee, 2)] == ["Blue Tee", "Plain Mug"]
    mug = Product.objects.get(sku="T-6")
    assert tee in fallback_products(mug, 8)
    assert mug not in fallback_products(mug, 8)


def test_what_is_not_published_is_nowhere(client, shop):
    page(client, "/product/thing-5/", status=404)
    for url in ["/", "/category/women/", "/search/?q=dress", "/search/?q=T-5"]:
        assert "Secret" not in client.get(url).content.decode()


def test_a_category_holds_what_is_below_it(client, shop):
    found = page(client, "/category/men/")
    assert [e.text for e in found.all("h3")] == ["Blue Tee", "Grey Pants", "Red Tee"]
    (active,) = found.all("a", aria_current="true")
    assert active.text == "Men"
    chips = found.inside("nav", aria_label="Subcategories")
    assert [chip.text for chip in chips if chip.tag == "a"] == ["Bottoms 1", "Tops 2"]
    women = page(client, "/category/women/")
    assert women.one("nav", aria_label="Subcategories").text.split() == ["Dresses", "1"]


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("name", ["Blue Tee", "Grey Pants", "Red Tee"]),
        ("newest", ["Grey Pants", "Blue Tee", "Red Tee"]),
        ("price", ["Red Tee", "Grey Pants", "Blue Tee"]),
        ("-price", ["Blue Tee", "Red Tee", "Grey Pants"]),
        ("no-such", ["Blue Tee", "Grey Pants", "Red Tee"]),
    ],
)
def test_sorting(client, shop, sort, names):
    found = page(client, f"/category/men/?sort={sort}")
    assert [e.text for e in found.all("h3")] == names
    (chosen,) = [option for option in found.all("option") if "selected" in option.attributes]
    assert chosen["value"] == ("name" if sort == "no-such" else sort)


def test_pages_of_a_long_list(client, make_product):
    for number in range(50):
        make_product(f"Thing {number:02}", photos=0)
    first = page(client, "/category/things/?sort=name")
    assert len(first.all("h3")) == 24
    assert first.one("a", rel="next")["href"] == "?sort=name&page=2"
    last = page(client, "/category/things/?sort=name&page=999")
    assert [e.text for e in last.all("h3")] == ["Thing 48", "Thing 49"]
    assert not last.all("a", rel="next")
    assert len(page(client, "/category/things/?page=x").all("h3")) == 24


def test_a_page_that_is_not_there(client, shop):
    for url in ("/product/nothing/", "/category/nothing/", "/nothing/"):
        found = page(client, url, status=404)
        assert "This page is not here" in found.one("h1").text
        assert found.one("nav", aria_label="Categories")


@pytest.mark.django_db(databases=[])
def test_a_failing_page_needs_no_database():
    found = Page(render_to_string("500.html"))
    assert not found.mistakes
    assert found.one("h1").text == "Something went wrong on our side."


def test_an_empty_shop_says_how_to_fill_it(client, db):
    assert "load_catalog" in page(client, "/").one("main").text


def test_the_foot_of_the_page_says_where_the_products_come_from(client, shop):
    assert "Drawn for the tests." in page(client, "/").one("footer").text


def test_texts_of_the_catalogue_are_escaped(client, make_product):
    evil = '"><script>alert(1)</script>'
    product = make_product(evil, description=evil)
    ProductPhoto.objects.update(caption=evil)
    for url in ("/", product.get_absolute_url(), f"/search/?q={evil}", product.category.get_absolute_url()):
        assert "<script>alert" not in client.get(url).content.decode()


def test_stored_photos_are_served_and_nothing_beside_them(client, shop, media_folder):
    source = page(client, "/").all("img")[0]["src"]
    response = client.get(source)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/webp"
    assert "max-age=86400" in response.headers["Cache-Control"]
    (media_folder.parent / "secret.txt").write_text("secret")
    for path in ("../secret.txt", "%2e%2e/secret.txt", "//etc/passwd"):
        assert client.get(settings.MEDIA_URL + path).status_code in (400, 404)
