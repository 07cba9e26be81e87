"""The widget in a real browser: accessible, steady, without JavaScript, lazy, counted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.core.cache import cache
from playwright.sync_api import expect

import catalog
import shop_similarity
from catalog.models import Product
from shop_similarity.models import Event, ModelVersion
from tests.shop_similarity.drawn_photos import products as drawn_products
from tests.shop_similarity.factories import add_photo, make_product, make_version, store_vectors
from tests.shop_similarity.storefront.test_widget import store_any_basis
from tests.vectors import random_vectors

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DARK = DESK | {"color_scheme": "dark"}
NO_SCRIPT = DESK | {"java_script_enabled": False}
WAYS = pytest.mark.parametrize("how", [DESK, DARK, PHONE], ids=["desk", "dark", "phone"])
PICTURES = os.environ.get("SHOP_TEST_PICTURES")

WATCH_SHIFTS = """window.shifts = []; new PerformanceObserver(list => list.getEntries().forEach(
    entry => window.shifts.push([entry.value, ...entry.sources.map(source => source.node && source.node.className)])
)).observe({type: 'layout-shift', buffered: true})"""
AXE = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


@pytest.fixture(autouse=True)
def _host(settings, tmp_path):
    """A shop that has the plugin's templates and thumbnails as they are."""
    settings.ROOT_URLCONF = "tests.shop_similarity.widget_host.urls"
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": None}
    folders = [Path(app.__file__).parent / "templates" for app in (shop_similarity, catalog)]
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "APP_DIRS": False, "DIRS": folders}]
    cache.clear()


@pytest.fixture
def reference_shop(settings):
    """The reference shop, whose own card takes the place of the plugin's."""
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": "catalog.thumbnails.square_copies"}
    folders = [Path(app.__file__).parent / "templates" for app in (catalog, shop_similarity)]
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "APP_DIRS": False, "DIRS": folders}]


@pytest.fixture
def shop() -> list[Product]:
    shown = []
    photos = []
    for number, drawn in enumerate(drawn_products(14)):
        name = drawn.name + (" with a name that is long enough for several lines" if number % 4 == 1 else "")
        shown.append(make_product(name, price=10 + number, stock=number % 3 + 1))
        photos.append(add_photo(shown[-1], drawn.photo((96, 96 + 32 * (number % 2)))))
    # Alike enough to be found, unlike enough to be more than variants of one product.
    store_vectors(make_version(), photos, random_vectors(14, clusters=1))
    store_any_basis(ModelVersion.objects.get())
    return shown


@pytest.fixture
def visit(chromium, live_server):
    """visit(how, url, fails=False) -> a page; at the end nothing may have gone wrong in it unless it was expected."""
    contexts, faults = [], []

    def open_page(how: dict, url: str, prepare=None, fails: bool = False):
        context = chromium.new_context(base_url=live_server.url, **how)
        contexts.append(context)
        page = context.new_page()
        if not fails:
            page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        if how.get("java_script_enabled", True):
            page.add_init_script(WATCH_SHIFTS)
        if prepare:
            prepare(page)
        page.goto(url, wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def host(widget: str, product: Product, query: str = "") -> str:
    return f"/host/{widget}/{product.pk}/" + (f"?{query}" if query else "")


def names(page) -> list[str]:
    return page.locator("[data-similarity-widget] .similar-products__item a").all_inner_texts()


def shifts(page) -> list:
    page.wait_for_timeout(200)
    return page.evaluate("window.shifts")


def events(page, count: int) -> list[tuple[str, str | None]]:
    """The recorded events, as soon as there are so many."""
    for _time in range(200):
        found = list(Event.objects.order_by("pk").values_list("kind", "target_product_id"))
        if len(found) >= count:
            break
        page.wait_for_timeout(50)
    return [(kind, target and str(target)) for kind, target in found]


class TestAccessibility:
    @WAYS
    def test_the_product_page(self, visit, shop, reference_shop, how):
        page = visit(how, shop[0].get_absolute_url())
        assert len(names(page)) == 8
        self._check(page)

    @pytest.mark.parametrize(("widget", "how"), [("grid", DARK), ("row", DESK), ("row", DARK), ("lazy", PHONE)])
    def test_another_host(self, visit, shop, how, widget):
        theme = "theme=night" if how is DARK else ""
        page = visit(how, host(widget, shop[0], theme))
        page.locator("[data-similarity-widget]").wait_for()
        self._check(page)

    def test_the_page_of_its_own(self, visit, shop):
        self._check(visit(DESK, f"/similarity/products/{shop[0].pk}/similar/?page=1"))

    def _check(self, page) -> None:
        found = Axe().run(page, options=AXE).response["violations"]
        serious = [
            (fault["id"], [node["html"] for node in fault["nodes"]])
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]
        assert serious == []


class TestSteadiness:
    @pytest.mark.parametrize("how", [DESK, PHONE], ids=["desk", "phone"])
    def test_nothing_moves_on_the_product_page(self, visit, shop, reference_shop, how):
        page = visit(how, shop[0].get_absolute_url())
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(300)
        assert shifts(page) == []

    @pytest.mark.parametrize("place", ["near", "far"])
    @pytest.mark.parametrize("how", [DESK, PHONE], ids=["desk", "phone"])
    def test_nothing_moves_when_a_lazy_widget_arrives(self, visit, shop, how, place):
        self._watch_it_arrive(visit, shop, how, place)

    @pytest.mark.parametrize("how", [DESK, PHONE], ids=["desk", "phone"])
    def test_nor_in_the_reference_shop(self, visit, shop, reference_shop, how):
        self._watch_it_arrive(visit, shop, how, "near&shop")

    def _watch_it_arrive(self, visit, shop, how, place) -> None:
        def slowly(page):
            page.route("**/similar/**", lambda route: (page.wait_for_timeout(400), route.continue_()))

        page = visit(how, host("lazy", shop[0], f"theme={place}"), slowly)
        if place == "far":
            assert page.locator("[data-similarity-widget]").count() == 0
            page.evaluate("scrollTo(0, 3000)")
        before = page.locator(".similar-products-lazy").bounding_box()["height"]
        page.locator("[data-similarity-widget]").wait_for()
        page.wait_for_load_state("networkidle")
        assert len(names(page)) == 4
        assert page.locator(".similar-products-lazy").bounding_box()["height"] == pytest.approx(before, abs=0.5)
        assert shifts(page) == []

    def test_an_empty_answer_leaves_no_gap(self, visit, shop, settings):
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "FALLBACK": None}
        lonely = make_product("Lonely")
        page = visit(DESK, host("lazy", lonely))
        page.locator(".similar-products-none").wait_for(state="attached")
        assert not page.locator(".similar-products-lazy").is_visible()

    @pytest.mark.parametrize("how", [DESK, PHONE], ids=["desk", "phone"])
    def test_pages_are_no_wider_than_the_window(self, visit, shop, how):
        for widget in ("row", "grid", "lazy"):
            page = visit(how, host(widget, shop[0]))
            assert page.evaluate("document.documentElement.scrollWidth") <= how["viewport"]["width"], widget
            if PICTURES:
                page.screenshot(path=Path(PICTURES) / f"{widget}-{how['viewport']['width']}.png", full_page=True)


class TestWithoutJavaScript:
    def test_the_list_its_leaning_and_its_filters(self, visit, shop, reference_shop):
        page = visit(NO_SCRIPT, shop[0].get_absolute_url())
        everything = names(page)
        assert len(everything) == 8
        page.get_by_role("link", name="Colour", exact=True).click()
        assert "similar_lean=colour" in page.url
        expect(page.locator(".similar-products__option[aria-current]")).to_have_text("Colour")
        page.get_by_label("Price up to").fill("15")
        page.get_by_role("button", name="Filter").click()
        assert "similar_lean=colour" in page.url
        assert "similar_price_max=15" in page.url
        assert len(names(page)) == 5
        page.get_by_role("link", name="Remove filters").click()
        assert len(names(page)) == 8
        page.locator(".similar-products__item a").first.click()
        assert "/product/" in page.url

    def test_a_lazy_widget_is_a_link_to_its_page(self, visit, shop):
        page = visit(NO_SCRIPT, host("lazy", shop[0]))
        page.get_by_role("link", name="Show similar products").click()
        assert len(names(page)) == 4
        page.get_by_role("link", name="Shape", exact=True).click()
        assert page.locator("h1").inner_text() == shop[0].name
        expect(page.locator(".similar-products__option[aria-current]")).to_have_text("Shape")


class TestKeyboard:
    def test_everything_is_reached_in_order_and_seen(self, visit, shop):
        page = visit(DESK, host("grid", shop[0]))
        reached = []
        for _time in range(13):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name"))
            outline = page.evaluate(
                """() => { const focused = document.activeElement;
                const shown = element => element && parseFloat(getComputedStyle(element).outlineWidth) >= 2
                    && getComputedStyle(element).outlineStyle !== 'none';
                return shown(focused) }"""
            )
            assert outline, reached[-1]
        assert reached[:7] == [
            "Everything",
            "Colour",
            "Pattern",
            "Shape",
            "similar_category",
            "similar_price_max",
            "Filter",
        ]
        assert reached[7:13] == names(page)

    def test_targets_are_large_enough(self, visit, shop):
        page = visit(PHONE, host("grid", shop[0]))
        sizes = page.evaluate(
            """() => [...document.querySelectorAll('.similar-products :is(a, button, input)')]
            .map(element => element.getBoundingClientRect()).map(({width, height}) => Math.min(width, height))"""
        )
        assert len(sizes) == 13
        assert min(sizes) >= 24

    def test_a_row_scrolls_by_keys_only_where_it_overflows(self, visit, shop):
        page = visit(DESK | {"reduced_motion": "reduce"}, host("row", shop[0]))
        row = page.get_by_role("list", name="More of these")
        row.focus()
        page.keyboard.press("ArrowRight")
        for _time in range(40):
            if page.evaluate("document.querySelector('.similar-products__list').scrollLeft > 0"):
                break
            page.wait_for_timeout(50)
        assert page.evaluate("document.querySelector('.similar-products__list').scrollLeft") > 0
        short = visit(DESK, host("short-row", shop[0]))
        expect(short.locator(".similar-products__list")).not_to_have_attribute("tabindex", "0")

    def test_the_focus_stays_on_what_was_chosen_and_it_is_said(self, visit, shop):
        page = visit(DESK, host("grid", shop[0], "size=M"))
        page.get_by_role("link", name="Pattern", exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="Pattern", exact=True)).to_have_attribute("aria-current", "true")
        assert page.evaluate("document.activeElement.textContent") == "Pattern"
        expect(page.get_by_role("status")).to_have_text("6 products, most similar in pattern first")
        assert page.url.endswith("?size=M&similar_lean=pattern")
        assert page.evaluate("performance.getEntriesByType('navigation').length") == 1
        page.get_by_label("Price up to").fill("12")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("2 products, most similar in pattern first")
        assert page.evaluate("document.activeElement.name") == "similar_price_max"
        # Who loads the page again sees the same.
        page.reload()
        assert len(names(page)) == 2


class TestLazyLoading:
    @pytest.mark.parametrize("query", ["", "htmx"], ids=["fetch", "htmx"])
    def test_it_is_loaded_once_and_when_it_comes_near(self, visit, shop, query):
        requests = []

        def listen(page):
            page.on("request", lambda request: requests.append(request) if "/similar/" in request.url else None)

        page = visit(DESK, host("lazy", shop[0], f"theme=far&{query}"), listen)
        assert requests == []
        page.evaluate("scrollTo(0, 3000)")
        page.locator("[data-similarity-widget]").wait_for()
        page.wait_for_load_state("networkidle")
        assert len(names(page)) == 4
        assert len(requests) == 1
        assert ("hx-request" in requests[0].headers) == bool(query)

    def test_htmx_alone_is_enough(self, visit, shop):
        page = visit(DESK, host("lazy", shop[0], "htmx&no-script"))
        page.locator("[data-similarity-widget]").wait_for()
        assert len(names(page)) == 4

    def test_a_lazy_list_can_be_exchanged_too(self, visit, shop):
        page = visit(DESK, host("lazy", shop[0]))
        page.get_by_role("link", name="Shape", exact=True).click()
        current = page.locator("[data-similarity-widget] .similar-products__option[aria-current]")
        expect(current).to_have_text("Shape")
        assert page.url.endswith("?similar_lean=shape")
        page.reload()
        expect(current).to_have_text("Shape")

    def test_a_page_whose_widget_does_not_answer_stays_whole(self, visit, shop):
        def broken(page):
            page.route("**/similar/**", lambda route: route.fulfill(status=503, body="busy"))

        page = visit(DESK, host("lazy", shop[0]), broken, fails=True)
        page.locator("[data-similarity-failed]").wait_for()
        expect(page.get_by_role("link", name="Show similar products")).to_be_visible()
        expect(page.locator("#after")).to_be_visible()
        assert shifts(page) == []

    def test_a_choice_that_does_not_answer_becomes_a_page(self, visit, shop):
        def broken(page):
            page.route("**/similar/**", lambda route: route.abort())

        page = visit(DESK, host("grid", shop[0]), broken, fails=True)
        page.get_by_role("link", name="Colour", exact=True).click()
        page.wait_for_url("**similar_lean=colour**")
        assert len(names(page)) == 6


class TestBeacons:
    def test_seen_clicked_and_bought(self, visit, shop, reference_shop):
        page = visit(DESK, shop[0].get_absolute_url())
        page.wait_for_timeout(1300)
        assert Event.objects.count() == 0, "the list is below the window"
        page.locator(".similar-products__list").scroll_into_view_if_needed()
        assert events(page, 1) == [("impression", None)]
        impression = Event.objects.get()
        assert len(impression.shown) == 8
        assert impression.product_id == shop[0].pk
        second = page.locator(".similar-products__item").nth(1)
        key = second.get_attribute("data-similarity-product")
        assert key == impression.shown[1]
        second.get_by_role("link").click()
        assert events(page, 2)[1:] == [("click", key)]
        page.get_by_role("button", name="Add to basket").click()
        page.wait_for_url("**/basket/")
        assert events(page, 3)[2:] == [("basket", key)]
        assert set(Event.objects.values_list("query_id", flat=True)) == {impression.query_id}
        assert Event.objects.get(kind="click").position == 2

    def test_a_glance_does_not_count_but_a_quick_click_does(self, visit, shop):
        page = visit(DESK, host("far", shop[0], "theme=far"))
        page.evaluate("scrollTo(0, 3000)")
        page.wait_for_timeout(300)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(1200)
        assert Event.objects.count() == 0
        page.evaluate("scrollTo(0, 3000)")
        page.locator(".similar-products__item a").first.click()
        assert sorted(kind for kind, _target in events(page, 2)) == ["click", "impression"]

    def test_a_list_that_came_later_is_counted(self, visit, shop):
        page = visit(DESK, host("lazy", shop[0]))
        page.locator("[data-similarity-widget]").wait_for()
        assert events(page, 1) == [("impression", None)]
        page.get_by_role("link", name="Shape", exact=True).click()
        assert events(page, 2) == [("impression", None)] * 2

    def test_a_list_higher_than_the_window_is_counted(self, visit, shop):
        page = visit({"viewport": {"width": 390, "height": 300}}, host("grid", shop[0]))
        page.locator(".similar-products__item").nth(2).scroll_into_view_if_needed()
        assert events(page, 1) == [("impression", None)]

    def test_only_products_that_were_clicked_on_are_bought_from_a_list(self, visit, shop):
        page = visit(DESK, shop[0].get_absolute_url())
        page.get_by_role("button", name="Add to basket").click()
        page.wait_for_url("**/basket/")
        page.wait_for_timeout(300)
        assert not Event.objects.filter(kind="basket").exists()
        assert page.evaluate("window.shopSimilarity") is None, "the basket's page needs no script of the plugin"

    def test_hosts_may_report_a_basket_themselves(self, visit, shop):
        page = visit(DESK, host("grid", shop[0]))
        link = page.locator(".similar-products__item a").first
        key = page.locator(".similar-products__item").first.get_attribute("data-similarity-product")
        link.click(modifiers=["Control"])
        assert ("click", key) in events(page, 2)
        assert page.evaluate("key => shopSimilarity.basket(key)", key) is True
        assert ("basket", key) in events(page, 3)
        assert page.evaluate("shopSimilarity.basket(-1)") is False

    def test_nothing_breaks_where_events_are_not_taken(self, visit, shop):
        def broken(page):
            page.route("**/events/", lambda route: route.fulfill(status=500))
            page.add_init_script("navigator.sendBeacon = () => false")

        page = visit(DESK, host("grid", shop[0]), broken, fails=True)
        with page.expect_request("**/events/") as sent:
            page.locator(".similar-products__list").scroll_into_view_if_needed()
        assert json.loads(sent.value.post_data)["events"] == [{"kind": "impression"}]
        page.locator(".similar-products__item a").first.click()
        page.wait_for_url("**/product/**")


class TestTheme:
    def test_colours_follow_the_hosts(self, visit, shop):
        looks = {}
        for theme in ("", "night"):
            page = visit(DESK, host("row", shop[0], f"theme={theme}"))
            looks[theme] = page.evaluate(
                """() => { const style = name => getComputedStyle(document.querySelector('.similar-products__' + name));
                return [style('heading').color, style('picture').borderRadius, style('picture').backgroundColor] }"""
            )
        ink, radius, picture = looks[""]
        assert (ink, radius) == ("rgb(34, 34, 34)", "8px")
        assert "0.06" in picture, "a shade of the text's colour"
        assert looks["night"] == ["rgb(223, 230, 255)", "20px", "rgb(27, 36, 64)"]

    @pytest.mark.parametrize(
        ("width", "rows"), [(1500, [8]), (1280, [4, 4]), (640, [2, 2, 2, 2]), (390, [2, 2, 2, 2])], ids=str
    )
    def test_what_bootstrap_says_moves_no_label_and_no_row_is_ragged(self, visit, shop, width, rows):
        page = visit({"viewport": {"width": width, "height": 800}}, host("eight", shop[0], "theme=bootstrap"))
        tops = page.locator(".similar-products__item").evaluate_all(
            "items => items.map(item => Math.round(item.getBoundingClientRect().top))"
        )
        assert [tops.count(top) for top in sorted(set(tops))] == rows
        middles = page.locator(".similar-products__field").evaluate_all(
            "fields => fields.map(field => [...field.children].map(part => {"
            " const box = part.getBoundingClientRect(); return box.top + box.height / 2 }))"
        )
        assert middles and all(max(field) - min(field) <= 1 for field in middles)
        card = page.locator(".similar-products__card").first
        card.hover()
        assert card.evaluate("card => getComputedStyle(card).color") == "rgb(34, 34, 34)"
