"""The whole way: a shopper finds a product by a photo and clicks it, a merchandiser finds the click and adds a photo.

Browser, web server, worker process, Postgres and Valkey are real; two people use two browsers, a program the API.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from playwright.sync_api import Page, expect

from catalog.models import Product
from shop_similarity.embedding import bell
from shop_similarity.models import Embedding, Event, VisualQuery
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import make_category, make_product
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DROP = """([content, selector]) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
    const area = document.querySelector(selector);
    for (const kind of ["dragenter", "dragover", "drop"]) {
        area.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: transfer }));
    }
}"""
SIZE = (300, 300)


@dataclass
class Shop:
    """Products of which only the first has no photo yet, their drawings, and the worker that embeds them."""

    products: list[Product]
    drawn: list[Any]
    worker: Any
    faults: list[str] = field(default_factory=list)

    def page(self, browser, url: str) -> Page:
        """A page in a browser of its own; scripts that fail and answers that are errors are faults."""
        page = browser.new_context(base_url=url, viewport={"width": 1280, "height": 1000}).new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("response", lambda response: self.faults.append(response.url) if response.status >= 400 else None)
        return page

    def until(self, condition, what: str) -> None:
        wait_until(condition, lambda: f"{what}\n{self.worker.log[-3000:]}")

    def until_embedded(self, count: int) -> None:
        self.until(lambda: Embedding.objects.count() == count, "The shop's photos were not embedded.")


@pytest.fixture
def shop(tiny_version, celery_worker_process, settings):
    # To an untrained network these drawings look much the same.
    own = {"DIVERSITY": 0.0, "DUPLICATE_SIMILARITY": 2.0, "VISUAL_SEARCH_WAIT_SECONDS": 30.0}
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **own}
    bell._app.cache_clear()
    cache.clear()
    tiny_version()
    drawn = products(13)
    made = []
    for number, item in enumerate(drawn):
        product = make_product(item.name, make_category(("Kitchen", "Wardrobe")[number % 2]), stock=3, price=number + 1)
        if number:
            product.photos.create(file=item.photo_file(SIZE), position=0)
        made.append(product)
    # So rare a look into the outbox that only the bell can have been heard.
    seldom = {"POLL_SECONDS": 600, "SWEEP_SECONDS": 0, "SWEEP_FILES_SECONDS": 0}
    worker = celery_worker_process("--pool", "solo", env={"SHOP_TEST_SIMILARITY": json.dumps({**own, **seldom})})
    bell.ring()
    found = Shop(made, drawn, worker)
    found.until_embedded(12)
    yield found
    bell.flush(5)
    bell._app.cache_clear()


def test_from_a_shoppers_photo_to_a_merchandisers(shop, live_server, chromium, tmp_path):
    User.objects.create_superuser("boss", password="secret")
    shopper, desk = shop.page(chromium, live_server.url), shop.page(chromium, live_server.url)
    try:
        _photo_is_searched_with_and_a_result_clicked(shop, shopper)
        _click_is_found_in_the_dashboard(desk)
        _photo_uploaded_in_the_admin_brings_look_alikes_to_the_page(shop, desk, shopper, tmp_path / "new.jpg")
    finally:
        shopper.context.close()
        desk.context.close()
    assert shop.faults == []
    _worker_answers_the_api(shop)


def _photo_is_searched_with_and_a_result_clicked(shop: Shop, page: Page) -> None:
    page.goto("/")
    page.get_by_role("banner").get_by_role("link", name="Search by photo").click()
    photo = shop.drawn[4].photo((400, 400))
    page.wait_for_selector("[data-visual-search-camera], [data-visual-search-drop]")
    page.evaluate(DROP, [base64.b64encode(photo).decode(), "[data-visual-search-drop]"])
    first = page.locator("[data-visual-search-state=found] [data-similarity-product]").first
    expect(first).to_be_visible(timeout=60_000)
    expect(first.get_by_role("heading")).to_have_text(shop.products[4].name)
    assert not VisualQuery.objects.filter(photo__isnull=False).exists(), "the photo was kept"
    # A list counts as seen when half of it has been looked at for a while.
    page.locator("[data-similarity-product]").last.scroll_into_view_if_needed()
    shop.until(lambda: Event.objects.filter(kind="impression").exists(), "The list was not reported as seen.")
    first.get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(shop.products[4].name)
    shop.until(lambda: Event.objects.filter(kind="click").exists(), "The click was not reported.")
    click = Event.objects.get(kind="click")
    assert (click.surface, click.target_product_id, click.position) == ("visual", shop.products[4].pk, 1)


def _click_is_found_in_the_dashboard(page: Page) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill("boss")
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Similar products", exact=True).first.click()
    page.get_by_role("link", name="Dashboard").first.click()
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name="visual search", exact=True))
    # Lists shown, lists with a click, click-through.
    expect(row.get_by_role("cell").nth(1)).to_have_text("1")
    expect(row.get_by_role("cell").nth(2)).to_have_text("1")
    expect(row.get_by_role("cell").nth(3)).to_contain_text("100")


def _photo_uploaded_in_the_admin_brings_look_alikes_to_the_page(
    shop: Shop, desk: Page, page: Page, picture: Path
) -> None:
    asked = shop.products[0]
    page.goto(asked.get_absolute_url())
    expect(page.get_by_role("heading", name="You may also like")).to_be_visible()

    picture.write_bytes(shop.drawn[0].photo((400, 300)))
    desk.goto(f"/admin/catalog/product/{asked.pk}/change/")
    desk.locator('input[type="file"]').first.set_input_files(picture)
    desk.get_by_role("button", name="Save", exact=True).click()
    expect(desk.get_by_text("was changed successfully")).to_be_visible()
    shop.until_embedded(13)

    page.goto(asked.get_absolute_url())
    section = page.get_by_role("region", name="Similar products")
    expect(section.get_by_role("listitem")).to_have_count(8)
    section.scroll_into_view_if_needed()
    for image in section.get_by_role("listitem").locator("img").all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    first = section.get_by_role("link").first
    name = first.inner_text().splitlines()[0]
    first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)

    # Unpublished: gone from the page at once.
    Product.objects.filter(name=name).update(is_published=False)
    page.goto(asked.get_absolute_url())
    expect(page.get_by_role("region", name="Similar products").get_by_text(name, exact=True)).to_have_count(0)
    Product.objects.filter(name=name).update(is_published=True)


def _worker_answers_the_api(shop: Shop) -> None:
    wanted = shop.products[4]
    client = Client()
    photo = SimpleUploadedFile("photo.jpg", shop.drawn[4].photo(SIZE), "image/jpeg")
    response = client.post("/api/similarity/v1/search/image/", {"image": photo, "limit": 1})
    assert response.status_code == 200, (response.content, shop.worker.log[-4000:])
    data = response.json()
    assert data["results"][0]["id"] == str(wanted.pk)
    assert data["results"][0]["similarity"] > 0.99
    more = client.get(data["next"]).json()
    assert more["results"][0]["id"] != str(wanted.pk)
    assert VisualQuery.objects.get(pk=data["id"]).photo is None
