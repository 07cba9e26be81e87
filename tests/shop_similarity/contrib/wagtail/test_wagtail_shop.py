"""A shop on unmodified Wagtail: its pages in Chromium, what editors do in its admin, and what the worker makes of it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.browser]

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHOES = ["Red shoe", "Blue shoe", "Green shoe", "Brown shoe"]
MUGS = ["Red mug", "Blue mug", "Green mug", "Brown mug"]
WIDGET = "section.similar-products"


@pytest.fixture(scope="module")
def shop(wagtail_shop):
    """Nineteen pages of two sites, embedded, with a web server and a worker."""
    shop = wagtail_shop("pages")
    shop.shop = json.loads(shop.manage("load_shop").splitlines()[-1])
    shop.manage("make_tiny_model")
    shop.address = shop.serve()
    shop.start_worker()
    return shop


@pytest.fixture
def visit(shop, chromium):
    """``visit(name or path, viewport, user)``: a page of the shop, opened; errors of its scripts fail the test."""
    contexts, errors = [], []

    def visit(place: str, viewport: dict[str, int] = WIDE, user: str | None = None) -> Any:
        context = chromium.new_context(viewport=viewport, locale="en")
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        if user:
            page.goto(f"{shop.address}/admin/login/")
            page.fill("#id_username", user)
            page.fill("#id_password", user)
            page.click("button[type=submit]")
            page.wait_for_url("**/admin/")
        page.goto(shop.address + path_of(shop, place))
        return page

    yield visit
    for context in contexts:
        context.close()
    assert errors == []


def path_of(shop, place: str) -> str:
    """Pages of a shop with several sites are addressed with their host, whose port is another one here."""
    return place if place.startswith("/") else urlsplit(shop.shop["urls"][place]).path


def names(widget: Any) -> list[str]:
    return [name.strip() for name in widget.locator(".similar-products__name").all_inner_texts()]


def product(shop, name: str) -> int:
    return shop.shop["keys"][name]


def test_a_product_page_shows_published_products_of_its_site_and_language(shop, visit):
    page = visit("red shoe")
    assert sorted(names(page.locator(WIDGET))) == sorted({*SHOES, *MUGS} - {"Red shoe"})
    # The page above is the category: to an untrained network all look alike, so the boost decides.
    assert set(names(page.locator(WIDGET))[:3]) == {*SHOES} - {"Red shoe"}
    for link in page.locator(f"{WIDGET} a.similar-products__card").all():
        assert page.request.get(shop.address + urlsplit(link.get_attribute("href")).path).ok
    pictures = page.locator(f"{WIDGET} img")
    pictures.first.scroll_into_view_if_needed()
    assert "max-240x480" in pictures.first.get_attribute("src")
    assert pictures.first.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 0
    # The other site, and the other language of this one, have one product each, and so nothing to show.
    assert visit("german").locator(WIDGET).count() == 0


def test_on_a_telephone_nothing_sticks_out(visit):
    page = visit("red shoe", PHONE)
    assert page.locator(WIDGET).count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_an_editors_block_shows_what_is_like_the_chosen_product(visit):
    page = visit("landing")
    widget = page.locator(WIDGET)
    assert widget.locator("h2").inner_text() == "Like the red shoe"
    assert set(names(widget)) == {*SHOES} - {"Red shoe"}
