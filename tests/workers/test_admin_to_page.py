"""A merchandiser uploads a photo in the admin, a shopper sees look-alikes: browser, web server and worker are real."""

from __future__ import annotations

import json
import time

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from shop_similarity.embedding import bell
from shop_similarity.models import Embedding
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import make_product

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def _until_embedded(count: int, worker) -> None:
    deadline = time.monotonic() + 60
    while Embedding.objects.count() != count:
        assert time.monotonic() < deadline, worker.log[-3000:]
        time.sleep(0.05)


def test_photo_uploaded_in_the_admin_brings_look_alikes_to_the_page(
    tiny_version, celery_worker_process, live_server, chromium, tmp_path, settings
):
    # To an untrained network these drawings look much the same.
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DUPLICATE_SIMILARITY": 2.0}
    bell._app.cache_clear()
    tiny_version()
    drawn = products(13)
    shop = []
    for number, item in enumerate(drawn):
        product = make_product(item.name, stock=3, price=number + 1)
        shop.append(product)
        if number:
            product.photos.create(file=item.photo_file((300, 300)), position=0)
    worker = celery_worker_process(
        env={"SHOP_TEST_SIMILARITY": json.dumps({"POLL_SECONDS": 600, "SWEEP_SECONDS": 0, "SWEEP_FILES_SECONDS": 0})}
    )
    bell.ring()
    _until_embedded(12, worker)
    User.objects.create_superuser("boss", password="secret")
    picture = tmp_path / "new.jpg"
    picture.write_bytes(drawn[0].photo((400, 300)))
    context = chromium.new_context(base_url=live_server.url, viewport={"width": 1280, "height": 1000})
    faults: list[str] = []
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("response", lambda response: faults.append(response.url) if response.status >= 400 else None)
        page.goto(shop[0].get_absolute_url())
        expect(page.get_by_role("heading", name="You may also like")).to_be_visible()

        page.goto("/admin/")
        page.get_by_label("Username").fill("boss")
        page.get_by_label("Password").fill("secret")
        page.get_by_role("button", name="Log in").click()
        page.goto(f"/admin/catalog/product/{shop[0].pk}/change/")
        page.locator('input[type="file"]').first.set_input_files(picture)
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("was changed successfully")).to_be_visible()
        _until_embedded(13, worker)

        page.goto(shop[0].get_absolute_url())
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

        # Unpublished in the admin: gone from the page at once.
        shop[0].refresh_from_db()
        type(shop[0]).objects.filter(name=name).update(is_published=False)
        page.goto(shop[0].get_absolute_url())
        expect(page.get_by_role("region", name="Similar products").get_by_text(name, exact=True)).to_have_count(0)
    finally:
        context.close()
        bell.flush(5)
        bell._app.cache_clear()
    assert faults == []
