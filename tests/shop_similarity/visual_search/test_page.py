"""Search by photo in a real browser, with a worker of this process that holds a real network."""

from __future__ import annotations

import base64
import io
import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from shop_similarity.models import Event, VisualQuery
from shop_similarity.workers import embedder, visual_queries
from shop_similarity.workers.drain import drain
from tests.shop_similarity.drawn_photos import product_image, products
from tests.shop_similarity.factories import add_photo, make_category, make_product
from tests.workers.conftest import kept_networks, tiny_version, tiny_weights  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
FORM = "/similarity/search/"
# Where pictures of the pages are kept for the eye, if somebody wants them.
PICTURES = os.environ.get("SHOP_TEST_PICTURES")


@pytest.fixture
def shop(tiny_version, settings):  # noqa: F811
    """Twelve embedded products, and a thread that answers as a worker's does."""
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "DIVERSITY": 0.0,
        # To an untrained network all these drawings look much the same.
        "DUPLICATE_SIMILARITY": 2.0,
        "VISUAL_SEARCH_MAX_BYTES": 3_000_000,
        "UPLOAD_RATE": None,
        "WIDGET_CACHE_SECONDS": 0,
    }
    embedder.release_embedder()
    tiny_version()
    shown = []
    for number, item in enumerate(products(12)):
        product = make_product(item.name, make_category(("Kitchen", "Wardrobe")[number % 2]), price=number + 1)
        add_photo(product, item.photo((200, 200)), f"{number}.jpg")
        shown.append(product)
    drain()
    stop = threading.Event()
    thread = threading.Thread(target=visual_queries.watch, args=(stop,), daemon=True)
    thread.start()
    yield shown
    stop.set()
    thread.join(30)
    embedder.release_embedder()


@pytest.fixture
def visit(chromium, live_server):
    """visit(how, url) -> a page; at the end no script may have failed and no policy have been hurt."""
    contexts, faults = [], []

    def open_page(url: str = FORM, **how) -> Page:
        context = chromium.new_context(base_url=live_server.url, **(how or DESK))
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda message: faults.append(message.text) if "Content Security Policy" in message.text else None,
        )
        page.goto(url, wait_until="networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def _jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def _photo(number: int, size: tuple[int, int] = (200, 200)) -> bytes:
    return products(12)[number].photo(size)


def _drop(page: Page, content: bytes, name: str = "photo.jpg", kind: str = "image/jpeg") -> None:
    """Drop a file on the form as a hand with a mouse would."""
    transfer = page.evaluate_handle(
        """([content, name, type]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        [base64.b64encode(content).decode(), name, kind],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("[data-visual-search-drop]", event, {"dataTransfer": transfer})


def _found(page: Page) -> list[str]:
    page.wait_for_selector("[data-visual-search-state=found] .similar-products__item", timeout=20_000)
    return [text.strip() for text in page.locator(".similar-products__item h3").all_inner_texts()]


def test_drop_a_photo_see_results_click_one(visit, shop):
    page = visit()
    _drop(page, _photo(3))
    assert _found(page)[0] == shop[3].name
    # The photo that is shown is the browser's own: no picture has an address that the search gave it.
    assert page.locator(".visual-search__photo").evaluate("canvas => canvas.width") == 200
    assert page.locator(".visual-search img").count() == 0
    assert "/similarity/search/" in page.url and page.url != FORM
    expect(page.locator("[data-visual-search-status]")).to_have_text("12 similar products")
    expect(page.locator("#visual-search-found")).to_be_focused()
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / "visual-search.png", full_page=True)
    with page.expect_request("**/similarity/events/"):
        page.get_by_role("link", name=shop[3].name).click()
    page.wait_for_url(f"**{shop[3].get_absolute_url()}")
    page.wait_for_timeout(300)
    assert Event.objects.filter(surface="visual", kind="click", target_product_id=shop[3].pk).count() == 1
    assert not VisualQuery.objects.filter(photo__isnull=False).exists()
    page.go_back()
    assert _found(page)[0] == shop[3].name


def test_part_chosen_by_keyboard_and_by_pointer_changes_what_is_found(visit, shop):
    # Two products side by side in one photo.
    both = Image.new("RGB", (800, 400), "white")
    drawn = products(12)
    for number, left in ((3, 0), (8, 400)):
        image = product_image(drawn[number].kind, drawn[number].colour, drawn[number].pattern, (400, 400))
        both.paste(image, (left, 0))
    page = visit()
    _drop(page, _jpeg(both))
    _found(page)
    page.get_by_text("Search with a part of the photo").focus()
    page.keyboard.press("Enter")
    edge = page.get_by_role("slider", name="Left edge")
    edge.focus()
    for _press in range(5):
        page.keyboard.press("PageUp")
    assert edge.input_value() == "50"
    assert edge.get_attribute("aria-valuetext") == "50 %"
    with page.expect_response("**/similarity/search/") as answer:
        page.get_by_role("button", name="Find similar products").press("Enter")
    assert answer.value.status == 201
    assert _found_first(page, shop[8].name)
    # An edge can't pass the one across.
    right = page.get_by_role("slider", name="Right edge")
    right.focus()
    page.keyboard.press("Home")
    assert int(right.input_value()) > 50

    area = page.locator("[data-visual-search-frame]").bounding_box()
    page.mouse.click(area["x"] + 4, area["y"] + area["height"] / 2)
    assert [page.get_by_role("slider", name=f"{name} edge").input_value() for name in ("Left", "Right")] == ["0", "100"]
    page.mouse.move(area["x"] + area["width"] * 0.03, area["y"] + area["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.3, area["y"] + area["height"] * 0.6)
    page.mouse.move(area["x"] + area["width"] * 0.49, area["y"] + area["height"] * 0.99)
    page.mouse.up()
    assert abs(int(edge.input_value()) - 3) <= 1
    assert abs(int(right.input_value()) - 49) <= 1
    page.get_by_role("button", name="Find similar products").click()
    expect(page.locator(".similar-products__item h3").first).not_to_have_text(shop[8].name, timeout=20_000)


def _found_first(page: Page, name: str) -> bool:
    expect(page.locator(".similar-products__item h3").first).to_have_text(name, timeout=20_000)
    return True


def test_filters_and_pages_change_the_list_in_place(visit, shop):
    page = visit()
    _drop(page, _photo(3))
    _found(page)
    page.get_by_label("Category").select_option(label="Wardrobe")
    page.get_by_label("Price up to").fill("6")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".similar-products__item")).to_have_count(3)
    assert "price_max=6" in page.url
    # The photo is still there: the page was not loaded anew.
    expect(page.locator(".visual-search__photo")).to_be_visible()
    page.reload()
    expect(page.locator(".similar-products__item")).to_have_count(3)
    page.get_by_role("link", name="Remove filters").click()
    expect(page.locator(".similar-products__item")).to_have_count(12)


@pytest.mark.long
def test_filters_do_not_overlap_in_a_shop_that_resets_no_box_sizing(visit, shop):
    page = visit()
    _drop(page, _photo(0))
    fields = page.locator(".visual-search-filters__field :is(input:not([type=hidden]), select)")
    expect(fields.first).to_be_visible()
    # A shop whose style sheet leaves box-sizing to the browser.
    page.evaluate(
        """() => {
            const sheet = new CSSStyleSheet();
            sheet.replaceSync("* { box-sizing: content-box }");
            document.adoptedStyleSheets.push(sheet);
        }"""
    )
    boxes = [field.bounding_box() for field in fields.all()]
    assert len(boxes) >= 3
    for left, right in pairwise(boxes):
        assert left["x"] + left["width"] <= right["x"] or left["y"] + left["height"] <= right["y"]


def test_errors_are_said_and_the_next_photo_takes_them_away(visit, shop, settings):
    page = visit()
    error = page.get_by_role("alert")
    _drop(page, b"just words", "notes.txt", "text/plain")
    expect(error).to_have_text("This is not a photo; choose an image file.")
    _drop(page, b"<svg xmlns='http://www.w3.org/2000/svg'/>", "drawing.jpg")
    expect(error).to_contain_text("This is a file of type SVG")
    _drop(page, _photo(3)[:900], "cut.jpg")
    expect(error).to_contain_text("cut off")
    # No browser can make this smaller, for it can't read it.
    _drop(page, b"\xff\xd8\xff" + bytes(3_100_000), "large.jpg")
    expect(error).to_contain_text("larger than 2.9")
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "UPLOAD_RATE": "1/day"}
    _drop(page, _photo(3))
    _found(page)
    expect(error).to_be_hidden()
    _drop(page, _photo(4))
    expect(error).to_contain_text("many photos in a short time")


@pytest.mark.long
def test_huge_photo_is_made_smaller_before_it_is_sent(visit, shop):
    # More bytes than the shop takes, and turned by its EXIF tag.
    noise = Image.effect_noise((3_600, 2_700), 80).convert("RGB")
    image = product_image("mug", "blue", size=(2_000, 2_000))
    noise.paste(image, (400, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    content = _jpeg(noise, exif=exif)
    assert len(content) > 3_000_000
    page = visit()
    _drop(page, content)
    # The shop refuses files of this size, so it got another one.
    _found(page)
    # The preview stands upright.
    assert page.locator(".visual-search__photo").evaluate("canvas => canvas.height > canvas.width")


@pytest.mark.long
def test_format_that_only_the_browser_reads_is_sent_as_another(visit, shop):
    # As with a phone's HEIC, which its own browser reads: this shop takes no BMP, this browser shows it.
    content = io.BytesIO()
    Image.open(io.BytesIO(_photo(3))).save(content, "BMP")
    page = visit()
    _drop(page, content.getvalue(), "photo.bmp", "image/bmp")
    assert _found(page)[0] == shop[3].name
    expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.long
def test_cancel_and_busy_worker(visit, shop, monkeypatch):
    gate = threading.Event()
    inner = embedder.Embedder.embed_one
    monkeypatch.setattr(embedder.Embedder, "embed_one", lambda self, photo: gate.wait(30) and inner(self, photo))
    page = visit()
    _drop(page, _photo(3))
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-visual-search-status]")).to_have_text("The search was cancelled.")
    expect(page.get_by_role("progressbar")).to_be_hidden()
    gate.set()
    page.get_by_role("button", name="Find similar products").click()
    assert _found(page)[0] == shop[3].name


@pytest.mark.long
def test_phone_offers_its_camera_and_nothing_is_wider_than_the_screen(visit, shop):
    page = visit(**PHONE)
    expect(page.get_by_role("button", name="Take a photo", exact=True)).to_be_visible()
    assert page.locator("input[capture=environment]").count() == 1
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Take a photo", exact=True).click()
    chooser.value.set_files({"name": "p.jpg", "mimeType": "image/jpeg", "buffer": _photo(5)})
    assert _found(page)[0] == shop[5].name
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / "visual-search-phone.png", full_page=True)


def test_all_of_it_without_a_script(visit, shop, tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(_photo(7))
    page = visit("/", java_script_enabled=False, **DESK)
    page.get_by_role("link", name="Search by photo").click()
    page.get_by_role("button", name="Find similar products").is_enabled()
    page.set_input_files("input[name=photo]", photo)
    page.get_by_role("button", name="Find similar products").click()
    assert _found(page)[0] == shop[7].name
    page.get_by_label("Price up to").fill("3")
    page.get_by_role("button", name="Filter").click()
    assert len(_found(page)) == 3
    photo.write_bytes(b"no photo at all")
    page.set_input_files("input[name=photo]", photo)
    page.get_by_role("button", name="Find similar products").click()
    expect(page.get_by_role("alert")).to_contain_text("not an image")


def _two_products() -> bytes:
    """Photo 3 large and photo 8 small beside it, on white."""
    both, drawn = Image.new("RGB", (900, 500), "white"), products(12)
    for number, side, at in ((3, 460, (10, 20)), (8, 260, (620, 200))):
        both.paste(product_image(drawn[number].kind, drawn[number].colour, drawn[number].pattern, (side, side)), at)
    return _jpeg(both)


def test_largest_object_is_suggested_and_another_is_chosen_by_keyboard(visit, shop, finds_objects):
    from axe_playwright_python.sync_playwright import Axe

    page = visit()
    _drop(page, _two_products())
    expect(page.get_by_role("button", name="Whole photo")).to_be_visible()
    row = page.locator("[data-visual-search-objects]")
    before = row.bounding_box()
    _found(page)
    objects = page.get_by_role("group", name="In the picture").get_by_role("button")
    expect(objects).to_have_count(3)
    pressed = page.locator(".visual-search__object[aria-pressed=true]")
    expect(pressed).to_have_text("Object 1 (middle, left)")
    expect(page.locator("[data-visual-search-status]")).to_contain_text("The largest object was searched with")
    left, right = (page.get_by_role("slider", name=f"{name} edge", include_hidden=True) for name in ("Left", "Right"))
    assert int(left.input_value()) < 20 and 40 < int(right.input_value()) < 70
    for number, name in ((2, "Object 2 (middle, right)"), (0, "Whole photo")):
        with page.expect_response(lambda response: response.request.method == "POST", timeout=20_000):
            objects.nth(number).press("Enter")
        expect(pressed).to_have_text(name)
        expect(page.locator("[data-visual-search-results]")).to_have_attribute("aria-busy", "false", timeout=20_000)
        assert (int(left.input_value()) > 50) == (number == 2)
    # Each was embedded when it was chosen, and then no objects were looked for.
    asked = VisualQuery.objects.order_by("created_at").values_list("regions", flat=True)
    assert [regions and len(regions) for regions in asked] == [2, None, None]
    # The buttons came into a row that was there, and nothing moved for them.
    assert {**row.bounding_box(), "y": 0} == {**before, "y": 0}
    assert not VisualQuery.objects.filter(photo__isnull=False, answered_at__isnull=False).exists()
    _serious(Axe(), page)


def test_list_of_objects_needs_no_script(visit, shop, finds_objects, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    photo = tmp_path / "photo.jpg"
    photo.write_bytes(_two_products())
    page = visit(java_script_enabled=False, **DESK)
    page.set_input_files("input[name=photo]", photo)
    page.get_by_label("Let me choose among the things").check()
    page.get_by_role("button", name="Find similar products").click()
    page.get_by_role("button", name="Object 2").click()
    expect(page.locator("[aria-current=true]")).to_have_text("Object 2 (middle, right)")
    assert _found(page)
    # With a script, for axe is one; the list is the same.
    scripted = visit(page.url[page.url.index("/similarity") :])
    expect(scripted.get_by_role("button", name="Object 1")).to_be_visible()
    _serious(Axe(), scripted)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_axe_finds_nothing(visit, shop, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(color_scheme=scheme, **DESK)
    _serious(Axe(), page)
    _drop(page, _photo(3))
    _found(page)
    page.get_by_text("Search with a part of the photo").click()
    _serious(Axe(), page)
    page.reload()
    _found(page)
    _serious(Axe(), page)
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"visual-search-{scheme}.png", full_page=True)


def _serious(axe, page: Page) -> None:
    violations = axe.run(page).response["violations"]
    assert [(item["id"], item["nodes"][0]["html"][:200]) for item in violations] == []
