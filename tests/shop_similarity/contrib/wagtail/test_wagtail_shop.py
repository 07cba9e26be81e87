"""A shop on unmodified Wagtail: its pages in Chromium, what editors do in its admin, what the worker makes of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.shop_similarity.drawn_photos import product_photo

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.browser]

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHOES = ["Red shoe", "Blue shoe", "Green shoe", "Brown shoe"]
MUGS = ["Red mug", "Blue mug", "Green mug", "Brown mug"]
WIDGET = "section.similar-products"
PICTURES = os.environ.get("SHOP_TEST_PICTURES")


@pytest.fixture(scope="module")
def shop(wagtail_shop):
    """Nineteen pages of two sites, embedded, with a web server and a worker."""
    shop = wagtail_shop("pages")
    shop.shop = json.loads(shop.manage("load_shop").splitlines()[-1])
    shop.manage("make_tiny_model")
    shop.address = shop.serve()
    shop.start_worker()
    return shop


def embedded(shop) -> dict[tuple[int, int], str]:
    """The hash of the file of each image and product, as the worker has embedded it."""
    rows = shop.rows(
        "SELECT e.product_id, p.image_id, e.content_sha256 FROM shop_similarity_embedding e "
        "JOIN shop_productphoto p ON p.id = e.image_id"
    )
    return {(product_id, image_id): digest for product_id, image_id, digest in rows}


def waiting(shop) -> int:
    return shop.rows("SELECT count(*) FROM shop_similarity_outboxentry WHERE failed_at IS NULL")[0][0]


@pytest.fixture
def visit(shop, chromium, request):
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
    for number, context in enumerate(contexts):
        if PICTURES:
            name = f"wagtail-{request.node.originalname}-{number}.png"
            context.pages[-1].screenshot(path=Path(PICTURES) / name, full_page=True)
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


def test_a_file_that_is_replaced_in_the_library_is_embedded_anew_for_all_products_that_show_it(shop, visit, tmp_path):
    shared = shop.shop["shared"]
    before = {key: digest for key, digest in embedded(shop).items() if key[1] == shared}
    # Four shoes, the translation and the alias of one.
    assert len(before) == 6 and len(set(before.values())) == 1
    photo = tmp_path / "new.jpg"
    photo.write_bytes(product_photo("shoe", "teal", "dotted", (600, 450)))
    page = visit(f"/admin/images/{shared}/", user="boss")
    page.set_input_files("#id_file", photo)
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/images/")
    after = shop.until(
        lambda: (
            (found := {key: digest for key, digest in embedded(shop).items() if key[1] == shared})
            and not set(found.values()) & set(before.values())
            and found
        )
    )
    assert set(after) == set(before) and len(set(after.values())) == 1
    # Its focal point is no other photo.
    shop.run(
        f"from wagtail.images.models import Image; image = Image.objects.get(pk={shared}); image.focal_point_x = 9; "
        "image.focal_point_y = image.focal_point_width = image.focal_point_height = 9; image.save()"
    )
    assert waiting(shop) == 0


def test_drafts_wait_until_they_are_published_and_what_is_unpublished_is_gone_at_once(shop, visit):
    key = product(shop, "blue mug")
    edit = (
        "from shop.models import ProductPage, ProductPhoto; from shop.management.commands.load_shop import image; "
        f"page = ProductPage.objects.get(pk={key}); "
        "page.gallery_images.add(ProductPhoto(image=image('mug', 'teal'), sort_order=9)); "
        "revision = page.save_revision()"
    )
    shop.run(edit)
    assert waiting(shop) == 0
    assert sum(product_id == key for product_id, _image in embedded(shop)) == 1
    shop.run(f"from shop.models import ProductPage; ProductPage.objects.get(pk={key}).latest_revision.publish()")
    shop.until(lambda: sum(product_id == key for product_id, _image in embedded(shop)) == 2)
    shop.run(f"from shop.models import ProductPage; ProductPage.objects.get(pk={key}).unpublish()")
    assert "Blue mug" not in names(visit("red shoe").locator(WIDGET))
    shop.run(f"from shop.models import ProductPage; ProductPage.objects.get(pk={key}).latest_revision.publish()")
    assert "Blue mug" in names(visit("red shoe").locator(WIDGET))


def test_an_editor_places_the_block_and_sees_the_states_of_the_photos(shop, visit):
    page = visit(f"/admin/pages/{product(shop, 'green mug')}/edit/", user="boss")
    states = page.locator("section", has=page.get_by_role("heading", name="Photos for similar products")).last
    assert states.locator("tbody tr").count() == 1
    assert states.locator("tbody").inner_text().lower().split() == ["embedded"]
    page.get_by_role("button", name="Insert a block").first.click()
    page.get_by_role("option", name="Similar products").click()
    page.get_by_label("Heading").last.fill("Like this mug")
    page.get_by_label("Most products").last.fill("2")
    page.get_by_role("button", name="More actions").last.click()
    page.get_by_role("button", name="Publish").click()
    page.wait_for_url("**/admin/pages/*/")
    shown = visit("green mug")
    # The block, and what the page's template has below it; each with an id of its own.
    assert shown.locator(f"{WIDGET} h2").all_inner_texts() == ["Like this mug", "Similar products"]
    assert len(names(shown.locator(WIDGET).first)) == 2
    identities = shown.locator(f"{WIDGET} h2").evaluate_all("all => all.map(one => one.id)")
    assert len(set(identities)) == 2


def test_the_report_is_for_those_who_may_see_it(shop, visit):
    image = "from shop.management.commands.load_shop import image, product; from shop.models import ProductPage; "
    shop.run(
        image + f"page = ProductPage.objects.get(pk={product(shop, 'red mug')}); "
        "broken = image('mug', 'pink'); broken.file.storage.delete(broken.file.name); "
        "handle = broken.file.storage.open(broken.file.name, 'wb'); handle.write(b'no photo'); handle.close(); "
        "from shop.models import ProductPhoto; ProductPhoto.objects.create(page=page, image=broken, sort_order=9)"
    )
    failed = "SELECT count(*) FROM shop_similarity_outboxentry WHERE failed_at IS NOT NULL"
    shop.until(lambda: shop.rows(failed)[0][0] == 1)
    address = "/admin/reports/similar-products/"
    page = visit(address, user="editor")
    # Wagtail leads who may not back to the start, with a sentence.
    assert urlsplit(page.url).path == "/admin/"
    assert "permission" in page.locator(".messages").inner_text()
    assert page.locator("a[href$='/reports/similar-products/']").count() == 0
    shop.run(
        "from django.contrib.auth.models import Group, Permission; Group.objects.get(name='Editors').permissions.add("
        "Permission.objects.get(codename='view_dashboard', content_type__app_label='shop_similarity'))"
    )
    page = visit(address, user="editor")
    text = page.locator("main").inner_text()
    assert "tiny" in text and "A worker was last running" in text
    assert "Red mug" in text and "photo" in text
    assert page.get_by_role("button", name="Try 1 photo again").count() == 0
    assert page.request.post(shop.address + address).status in (403, 302)
    page = visit(address, user="boss")
    page.get_by_role("button", name="Try 1 photo again").click()
    page.get_by_text("1 photo is queued again.").wait_for()
    shop.until(lambda: shop.rows(failed)[0][0] == 1)


def test_groups_can_be_given_the_permissions(shop, visit):
    page = visit("/admin/groups/new/", user="boss")
    assert page.get_by_text("Can view the dashboard of similar products").count() == 1


def test_a_page_of_cards_asks_for_all_renditions_at_once(shop):
    code = """
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.core.cache import cache
client = Client(HTTP_HOST="localhost")
path = "/en/shop/shoes/red-shoe/"
assert client.get(path).status_code == 200
cache.clear()
with CaptureQueriesContext(connection, ) as queries:
    assert client.get(path).status_code == 200
statements = [query["sql"] for query in queries.captured_queries]
# The three photos of the page itself are asked for one by one by its template.
result = [sum('FROM "wagtailimages_rendition"' in one and "max-240x480" in one for one in statements), len(statements)]
"""
    renditions, statements = shop.run(code)
    print("Statements of a product page with seven cards:", statements)
    assert renditions == 1


def test_rules_and_filters_know_the_pages_above(shop):
    code = """
from shop.models import ContentPage, ProductPage
from shop_similarity.catalogue.categories import category_choices
from shop_similarity.models import MerchandisingRule
from shop_similarity.search import similar_products
from shop_similarity.search_options import Filters, SearchOptions
labels = [label.split(" (")[0] for _key, label in category_choices(with_hidden=False, most=50, separator=" / ")]
shoe = ProductPage.objects.get(title="Red shoe", alias_of=None)
pages = {page.title: page.pk for page in ContentPage.objects.filter(locale=shoe.locale)}
def found(*categories):
    options = SearchOptions(limit=20, filters=Filters(categories))
    return sorted({str(one) for one in similar_products(shoe, options=options)})
result = [labels, found(pages["Mugs"]), found(pages["Shop"])]
rule = MerchandisingRule.objects.create(kind="hide", category="", target_category=str(pages["Mugs"]))
result.append([str(one) for one in similar_products(shoe, limit=20)])
rule.delete()
"""
    labels, mugs, everything, without_mugs = shop.run(code)
    assert {*labels} >= {"Shop", "Shop / Shoes", "Shop / Mugs"} and not any("Start" in label for label in labels)
    assert mugs == sorted(MUGS)
    assert everything == sorted({*MUGS, *SHOES} - {"Red shoe"})
    assert without_mugs and not {*without_mugs} & {*MUGS}


def test_the_limits_of_the_block_are_those_of_the_widget(shop):
    code = """
from shop_similarity.contrib.wagtail.blocks import _LIMIT, _MOST
from shop_similarity.storefront.options import MOST_PRODUCTS, WidgetOptions
result = [_LIMIT == WidgetOptions.limit, _MOST == MOST_PRODUCTS]
"""
    assert shop.run(code) == [True, True]


def test_photos_of_stream_fields_are_written_into_a_model(shop):
    code = """
from shop.management.commands.load_shop import image
from shop.models import ContentPage, ProductPage, StreamPhoto
from shop_similarity.catalogue import get_catalogue
images = [image("bag", colour) for colour in ("red", "blue", "green")]
page = ContentPage.objects.get(title="Other").add_child(instance=ProductPage(title="A bag", live=False))
def publish(*chosen):
    page.body = [("photo", one) for one in chosen]
    page.save_revision().publish()
    rows = get_catalogue().images_of([page.pk]).order_by("sort_order")
    return [images.index(row.image) for row in rows], set(rows.values_list("pk", flat=True))
first, kept = publish(images[0], images[1], images[0])
second, rows = publish(images[2], images[1])
result = [first, second, len(kept & rows)]
page.delete()
"""
    assert shop.run(code, IMAGES="stream_photos.image.file") == [[0, 1], [2, 1], 1]


def test_products_that_are_snippets(wagtail_shop):
    shop = wagtail_shop("snippets")
    code = """
import numpy as np
from django.test import Client
from shop.management.commands.load_shop import _of, image
from shop.models import ContentPage, Gadget
from shop_similarity.catalogue import get_catalogue
from shop_similarity.embedding.outbox import Claim
from shop_similarity.embedding.writing import PhotoVector, write_embeddings
from shop_similarity.models import ModelVersion
from wagtail.models import Locale, Page
locales = [Locale.get_default(), Locale.objects.create(language_code="de")]
def gadget(locale, colour):
    name = f"{colour} {locale.language_code}"
    return Gadget.objects.create(name=name, photo=image("lamp", colour), locale=locale, live=colour != "red")
gadgets = [gadget(locale, colour) for locale in locales for colour in ("red", "blue", "green", "brown")]
version = ModelVersion.objects.create(name="v1", architecture="mildnet", weights_sha256="0", state="active")
rows = list(get_catalogue().rows(get_catalogue().images()))
vectors = np.random.default_rng(7).normal(size=(len(rows), 4096)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
photos = [
    PhotoVector(Claim(row.image_id, (), 1), row, "1:1", f"{row.image_id:064x}", vector)
    for row, vector in zip(rows, vectors)
]
assert len(write_embeddings(version.pk, photos).written) == 8
home = Page.objects.get(depth=2).add_child(instance=ContentPage(title="News"))
home.body = [("similar_products", _of(home, {"heading": "", "product": gadgets[1].pk, "limit": 8}))]
home.save_revision().publish()
content = Client(HTTP_HOST="localhost").get(home.url).content.decode()
result = [name for name in (one.name for one in gadgets) if f"{name}</span>" in content]
"""
    assert sorted(shop.run(code)) == ["brown en", "green en"]
