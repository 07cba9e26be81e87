"""The shop in a real browser: on a desk, on a telephone, in the dark and without JavaScript."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from catalog.models import LoadedCatalogue, Product

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DESK = {"viewport": {"width": 1360, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DARK = DESK | {"color_scheme": "dark"}
LOAD_ALL = """() => Promise.all([...document.images].map(
    image => { image.loading = 'eager'; return image.decode().catch(() => null) }))"""
# Where pictures of the pages are kept for the eye, if somebody wants them.
PICTURES = os.environ.get("SHOP_TEST_PICTURES")


@pytest.fixture
def shop(make_product):
    LoadedCatalogue.objects.create(name="drawn", description="Drawn for the tests.")
    for number in range(30):
        make_product(
            f"Thing {number:02} with a fairly long name",
            ("Men / Tops", "Women / Dresses", "Kitchen")[number % 3],
            photos=3 if number % 5 == 0 else 1,
            stock=number % 4,
            description="Nothing special. " * 20,
        )


@pytest.fixture
def visit(chromium, live_server):
    """visit(how, url) -> a page of the browser; at the end nothing may have gone wrong in it."""
    contexts, faults = [], []

    def open_page(how: dict, url: str):
        context = chromium.new_context(base_url=live_server.url, **how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("requestfailed", lambda request: faults.append(f"{request.url} failed"))
        page.goto(url, wait_until="networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def addresses() -> dict[str, str]:
    return {
        "home": "/",
        "category": "/category/men/?sort=-price",
        "search": "/search/?q=thing",
        "nothing": "/search/?q=zzzz",
        "product": Product.objects.get(name__startswith="Thing 00").get_absolute_url(),
        "basket": "/basket/",
    }


@pytest.mark.parametrize(
    ("name", "how"), [("desk", DESK), ("phone", PHONE), pytest.param("dark", DARK, marks=pytest.mark.long)]
)
def test_pages_fit_and_show_every_photo(visit, shop, name, how):
    for title, url in addresses().items():
        page = visit(how, url)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= how["viewport"]["width"], f"{title} is {width} px wide"
        page.evaluate(LOAD_ALL)
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)"), title
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(20, 20, 19)" if name == "dark" else "rgb(251, 250, 248)")
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / f"{title}-{name}.png", full_page=True)


def test_nothing_moves_while_photos_arrive(visit, shop):
    page = visit(PHONE, "/category/men/")
    page.add_init_script(
        "window.shift = 0; new PerformanceObserver(list => list.getEntries().forEach("
        "entry => { window.shift += entry.value })).observe({type: 'layout-shift', buffered: true})"
    )
    page.reload(wait_until="networkidle")
    page.mouse.wheel(0, 4000)
    page.wait_for_timeout(300)
    assert page.evaluate("window.shift") < 0.02


def in_view(page) -> str:
    """The id of the gallery photo that the stage shows."""
    return page.evaluate(
        """() => { const stage = document.querySelector('.gallery__stage').getBoundingClientRect();
        return [...document.querySelectorAll('.gallery__photo')].find(
            photo => Math.abs(photo.getBoundingClientRect().left - stage.left) < 2)?.id }"""
    )


def test_the_gallery(visit, shop):
    page = visit(DESK | {"reduced_motion": "reduce"}, addresses()["product"])
    assert in_view(page) == "photo-1"
    links = page.locator(".gallery__choice a")
    links.nth(2).click()
    expect(links.nth(2)).to_have_attribute("aria-current", "true")
    assert in_view(page) == "photo-3"
    assert page.evaluate("window.scrollY") == 0, "the page itself stays where it is"
    assert not page.url.endswith("#photo-3")
    assert page.locator(".gallery__choice a[aria-current]").count() == 1
    page.locator(".gallery__stage").focus()
    page.keyboard.press("ArrowLeft")
    expect(links.nth(1)).to_have_attribute("aria-current", "true")


def test_the_gallery_and_the_sorting_without_javascript(visit, shop):
    without = DESK | {"java_script_enabled": False, "reduced_motion": "reduce"}
    page = visit(without, addresses()["product"])
    page.locator(".gallery__choice a").nth(1).click()
    stage = page.locator(".gallery__stage").bounding_box()
    photo = page.locator("#photo-2").bounding_box()
    assert abs(photo["x"] - stage["x"]) < 2
    page = visit(without, "/category/men/")
    page.select_option("#sort", "-price")
    page.click(".sorting button")
    assert page.url.endswith("sort=-price")


def test_sorting_and_buying(visit, shop):
    page = visit(DESK, "/category/men/")
    assert not page.locator(".sorting button").is_visible()
    with page.expect_navigation():
        page.select_option("#sort", "newest")
    assert page.url.endswith("sort=newest")
    page.click(".card:not(:has(.card__note)) >> nth=0")
    page.click("text=Add to basket")
    assert page.locator(".basket__line").count() == 1
    assert page.locator(".basket-link__size").inner_text().startswith("1")


def test_the_keyboard_reaches_the_content_first(visit, shop):
    page = visit(DESK, "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
