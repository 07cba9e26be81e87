"""The whole way: a shopper drops a photo, sees results, clicks one, and the merchandiser finds the click.

Browser, web server, worker process, Postgres and Valkey are real; two people use two browsers.
"""

from __future__ import annotations

import base64
import json
import time

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from shop_similarity.embedding import bell
from shop_similarity.models import Embedding, Event, VisualQuery
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import make_category, make_product

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


def _until(condition, what: str, worker) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{worker.log[-3000:]}"
        time.sleep(0.05)


def test_a_click_on_a_result_of_a_photo_is_found_in_the_dashboard(
    tiny_version, celery_worker_process, live_server, chromium, settings
):
    # To an untrained network these drawings look much the same.
    own = {"DIVERSITY": 0.0, "DUPLICATE_SIMILARITY": 2.0, "VISUAL_SEARCH_WAIT_SECONDS": 30}
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **own}
    bell._app.cache_clear()
    tiny_version()
    drawn = products(12)
    shop = []
    for number, item in enumerate(drawn):
        product = make_product(item.name, make_category(("Kitchen", "Wardrobe")[number % 2]), stock=3, price=number + 1)
        product.photos.create(file=item.photo_file((300, 300)), position=0)
        shop.append(product)
    worker = celery_worker_process(env={"SHOP_TEST_SIMILARITY": json.dumps({**own, "SWEEP_SECONDS": 0})})
    _until(lambda: Embedding.objects.count() == 12, "The shop's photos were not embedded.", worker)
    User.objects.create_superuser("boss", password="secret")

    faults: list[str] = []
    shopper = chromium.new_context(base_url=live_server.url, viewport={"width": 1280, "height": 900})
    merchandiser = chromium.new_context(base_url=live_server.url, viewport={"width": 1280, "height": 1000})
    try:
        page = shopper.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("response", lambda response: faults.append(response.url) if response.status >= 400 else None)
        page.goto("/")
        page.get_by_role("banner").get_by_role("link", name="Search by photo").click()
        photo = drawn[4].photo((400, 400))
        page.wait_for_selector("[data-visual-search-camera], [data-visual-search-drop]")
        page.evaluate(DROP, [base64.b64encode(photo).decode(), "[data-visual-search-drop]"])
        first = page.locator("[data-visual-search-state=found] [data-similarity-product]").first
        expect(first).to_be_visible(timeout=60_000)
        expect(first.get_by_role("heading")).to_have_text(shop[4].name)
        assert not VisualQuery.objects.filter(photo__isnull=False).exists(), "the photo was kept"
        # A list counts as seen when half of it has been looked at for a while.
        page.locator("[data-similarity-product]").last.scroll_into_view_if_needed()
        _until(lambda: Event.objects.filter(kind="impression").exists(), "The list was not reported as seen.", worker)
        first.get_by_role("link").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(shop[4].name)
        _until(lambda: Event.objects.filter(kind="click").exists(), "The click was not reported.", worker)

        desk = merchandiser.new_page()
        desk.on("pageerror", lambda error: faults.append(str(error)))
        desk.goto("/admin/")
        desk.get_by_label("Username").fill("boss")
        desk.get_by_label("Password").fill("secret")
        desk.get_by_role("button", name="Log in").click()
        desk.get_by_role("link", name="Similar products", exact=True).first.click()
        desk.get_by_role("link", name="Dashboard").first.click()
        row = desk.get_by_role("row").filter(has=desk.get_by_role("cell", name="visual search", exact=True))
        # Lists shown, lists with a click, click-through.
        expect(row.get_by_role("cell").nth(1)).to_have_text("1")
        expect(row.get_by_role("cell").nth(2)).to_have_text("1")
        expect(row.get_by_role("cell").nth(3)).to_contain_text("100")
    finally:
        shopper.close()
        merchandiser.close()
        bell.flush(5)
        bell._app.cache_clear()
    click = Event.objects.get(kind="click")
    assert (click.surface, click.target_product_id, click.position) == ("visual", shop[4].pk, 1)
    assert faults == []
