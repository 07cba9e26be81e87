"""The custom element `<similar-products>` in a real browser: accessible, steady, themed, counted, from anywhere."""

from __future__ import annotations

import http.server
import json
import os
import re
import threading
import time
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from playwright.sync_api import Page, expect

import shop_similarity
from catalog.models import Product
from shop_similarity.models import Event
from tests.shop_similarity.factories import make_product
from tests.shop_similarity.storefront.test_widget_page import (
    AXE,
    DARK,
    DESK,
    NO_SCRIPT,
    PHONE,
    Axe,
    events,
    shifts,
    visit,
)
from tests.shop_similarity.storefront.test_widget_page import _host as _host
from tests.shop_similarity.storefront.test_widget_page import shop as shop

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

STATIC = Path(shop_similarity.__file__).parent / "static" / "shop_similarity"
PICTURES = os.environ.get("SHOP_TEST_PICTURES")
API = "**/api/similarity/v1/**"
LISTEN = """window.told = []; for (const kind of ["loaded", "impression", "click", "error"])
    document.addEventListener("similar-" + kind, event => window.told.push([kind, event.detail.product]))"""

visit = visit


def element(kind: str, product: Product, query: str = "") -> str:
    return f"/element/{kind}/{product.pk}/" + (f"?{query}" if query else "")


def names(page) -> list[str]:
    page.locator("similar-products li.item").first.wait_for()
    return page.locator("similar-products li.item .name").all_inner_texts()


def expected(product: Product, **parameters) -> list[str]:
    answer = Client().get(f"/api/similarity/v1/products/{product.pk}/similar/", parameters)
    return [result["name"] for result in answer.json()["results"]]


def slowly(page) -> None:
    page.route(API, lambda route: (page.wait_for_timeout(400), route.continue_()))


def broken(page) -> None:
    page.route(API, lambda route: route.fulfill(status=503, body='{"title": "busy"}'))


def listening(page) -> None:
    page.add_init_script(LISTEN)


class TestWhatIsShown:
    def test_the_products_of_the_api_in_their_order(self, visit, shop):
        page = visit(DESK, element("plain", shop[0]), listening)
        assert names(page) == expected(shop[0], limit=4)
        assert page.get_by_role("heading", name="Similar products").count() == 1
        links = page.locator("similar-products a.card").evaluate_all("links => links.map(link => link.href)")
        assert all("/product/" in link for link in links)
        assert page.evaluate("window.told")[0] == ["loaded", str(shop[0].pk)]

    def test_changed_attributes_ask_once_and_show_the_last(self, visit, shop):
        asked = []

        def listen(page):
            page.on("request", lambda request: asked.append(request.url) if "/api/" in request.url else None)

        page = visit(DESK, element("plain", shop[0]), listen)
        names(page)
        page.evaluate(
            """key => { const element = document.querySelector("similar-products");
            element.product = key; element.limit = 3; element.priceMax = 20; }""",
            shop[1].pk,
        )
        expect(page.locator("similar-products li.item")).to_have_count(3)
        assert names(page) == expected(shop[1], limit=3, price_max=20)
        assert len(asked) == 2
        # Looks change without another question.
        page.evaluate("document.querySelector('similar-products').heading = 'Like it'")
        expect(page.get_by_role("heading", name="Like it")).to_be_visible()
        expect(page.locator("similar-products [role=status]")).to_have_text("3 similar products")
        assert len(asked) == 2

    def test_an_answer_that_was_overtaken_is_dropped(self, visit, shop):
        def first_is_slow(page):
            def route(route):
                if f"/{shop[0].pk}/" in route.request.url:
                    page.wait_for_timeout(500)
                route.continue_()

            page.route(API, route)

        page = visit(DESK, element("plain", shop[0]), first_is_slow)
        page.evaluate("key => document.querySelector('similar-products').setAttribute('product', key)", shop[2].pk)
        page.wait_for_timeout(900)
        assert names(page) == expected(shop[2], limit=4)

    def test_a_card_of_the_pages_own(self, visit, shop):
        page = visit(DESK, element("template", shop[0]))
        cards = page.locator("article.own-card")
        expect(cards).to_have_count(3)
        assert cards.locator("b").all_inner_texts() == expected(shop[0], limit=3)
        assert cards.first.locator("a").get_attribute("href").startswith("http")
        page.evaluate(
            """() => { document.querySelector("similar-products").renderCard = result => {
            const link = document.createElement("a"); link.href = result.url; link.className = "made";
            link.textContent = result.name; return link; } }"""
        )
        assert page.locator("a.made").all_inner_texts() == expected(shop[0], limit=3)
        expect(cards).to_have_count(0)

    def test_no_address_runs_a_script(self, visit, shop):
        def hostile(page):
            result = {"id": "1", "name": "<img src=x onerror=alert(1)>", "url": "javascript:alert(1)", "image": None}
            answer = json.dumps({"results": [result], "token": None})
            page.route(API, lambda route: route.fulfill(status=200, content_type="application/json", body=answer))

        for kind in ("plain", "template"):
            page = visit(DESK, element(kind, shop[0]), hostile)
            page.locator("similar-products li.item").wait_for()
            assert page.locator("a[href^='javascript']").count() == 0
            assert "<img" in page.locator("li.item .name, article b").inner_text()

    def test_other_languages(self, visit, shop):
        page = visit(DESK, element("plain", shop[0], "language=de"))
        expect(page.get_by_role("heading", name="Ähnliche Produkte")).to_be_visible()

    def test_keys_with_slashes(self, visit, shop):
        asked = []

        def listen(page):
            page.on("request", lambda request: asked.append(request.url) if "/api/" in request.url else None)

        page = visit(DESK, element("plain", shop[0]), listen, fails=True)
        page.evaluate("document.querySelector('similar-products').setAttribute('product', 'a/b ü')")
        page.wait_for_timeout(200)
        assert asked[-1].endswith("/v1/products/~YS9iIMO8/similar/?limit=4")


def until_told(page: Page) -> None:
    """Not by wait_for_function, which the page's Content-Security-Policy forbids to ask a second time."""
    deadline = time.monotonic() + 30
    while not page.evaluate("window.told.length"):
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


class TestFallback:
    def test_what_stands_within_stays_until_products_arrive(self, visit, shop):
        page = visit(DESK, element("fallback", shop[0]), slowly)
        expect(page.get_by_role("link", name="by hand")).to_be_visible()
        names(page)
        expect(page.get_by_role("link", name="by hand")).to_be_hidden()

    def test_and_when_they_do_not(self, visit, shop):
        page = visit(DESK, element("fallback", shop[0]), lambda page: (listening(page), broken(page)), fails=True)
        until_told(page)
        assert page.evaluate("window.told") == [["error", str(shop[0].pk)]]
        expect(page.get_by_role("link", name="by hand")).to_be_visible()
        expect(page.locator("#after")).to_be_visible()
        assert shifts(page) == []

    def test_and_where_nothing_is_similar(self, visit, shop):
        lonely = make_product("Lonely")
        page = visit(DESK, element("fallback", lonely))
        expect(page.get_by_role("link", name="by hand")).to_be_visible()
        page = visit(DESK, element("plain", lonely), listening)
        until_told(page)
        assert page.locator("similar-products").bounding_box()["height"] == 0

    def test_and_without_javascript(self, visit, shop):
        page = visit(NO_SCRIPT, element("rendered", shop[0]))
        assert page.locator(".similar-products__item a").count() == 4


class TestSteadiness:
    @pytest.mark.parametrize("kind", ["plain", "row", "explained", "rendered"])
    @pytest.mark.parametrize("how", [DESK, PHONE], ids=["desk", "phone"])
    def test_nothing_moves_when_products_arrive(self, visit, shop, how, kind):
        page = visit(how, element(kind, shop[0]), slowly)
        frame = page.locator("similar-products .frame")
        before = frame.bounding_box()["height"]
        assert before > 150
        names(page)
        page.wait_for_load_state("networkidle")
        assert frame.bounding_box()["height"] == pytest.approx(before, abs=0.5)
        # No more room than the list takes, whatever stood there before; a row keeps some for its scroll bar.
        end = page.locator("similar-products li.item").last.bounding_box()
        assert frame.bounding_box()["y"] + before - (end["y"] + end["height"]) < 20
        assert shifts(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= how["viewport"]["width"]
        if PICTURES:
            name = f"element-{kind}-{how['viewport']['width']}.png"
            page.screenshot(path=Path(PICTURES) / name, full_page=True)

    def test_a_lazy_one_asks_when_it_comes_near(self, visit, shop):
        page = visit(DESK, element("lazy", shop[0], "theme=far"), listening)
        page.wait_for_timeout(200)
        assert page.evaluate("window.told") == []
        page.evaluate("scrollTo(0, 3000)")
        assert len(names(page)) == 4
        assert shifts(page) == []


class TestAccessibility:
    @pytest.mark.parametrize(
        ("kind", "how"), [("plain", DESK), ("explained", DARK), ("row", PHONE), ("template", DESK)], ids=str
    )
    def test_axe_finds_nothing(self, visit, shop, how, kind):
        page = visit(how, element(kind, shop[0], "theme=night" if how is DARK else ""))
        page.locator("similar-products li.item").first.wait_for()
        found = Axe().run(page, options=AXE).response["violations"]
        assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found] == []

    def test_keys_and_outline(self, visit, shop):
        page = visit(DESK, element("plain", shop[0]))
        wanted = names(page)
        reached = []
        for _time in range(4):
            page.keyboard.press("Tab")
            focused = "document.querySelector('similar-products').shadowRoot.activeElement"
            reached.append(page.evaluate(f"{focused}.textContent.trim()"))
            assert page.evaluate(f"parseFloat(getComputedStyle({focused}).outlineWidth) >= 2")
        assert reached == wanted
        row = visit(DESK, element("row", shop[0]))
        names(row)
        expect(row.get_by_role("list", name="More of these")).to_have_attribute("tabindex", "0")


class TestTheme:
    def test_properties_and_defaults_are_the_widgets(self):
        def properties(text: str) -> set[str]:
            return set(re.findall(r"var\((--similar-products-[\w-]+, [^;{}]*?)\)[;,) ]", re.sub(r"\s+", " ", text)))

        script = (STATIC / "similar-products.js").read_text(encoding="utf-8")
        own = properties(script)
        assert len(own) >= 13
        assert own <= properties((STATIC / "widget.css").read_text(encoding="utf-8"))

    def test_colours_follow_the_hosts(self, visit, shop):
        page = visit(DESK, element("plain", shop[0], "theme=night"))
        names(page)
        look = page.evaluate(
            """() => { const root = document.querySelector("similar-products").shadowRoot;
            const style = name => getComputedStyle(root.querySelector(name));
            return [style(".section .heading").color, style("li.item .picture").borderRadius,
                    style("li.item .picture").backgroundColor] }"""
        )
        assert look == ["rgb(223, 230, 255)", "20px", "rgb(27, 36, 64)"]


class TestCounting:
    def test_view_click_and_basket(self, visit, shop):
        page = visit(DESK, element("plain", shop[0]), listening)
        assert events(page, 1) == [("impression", None)]
        link = page.locator("similar-products a.card").nth(1)
        key = page.locator("similar-products li.item").nth(1).get_attribute("data-similarity-product")
        assert page.evaluate("window.told.map(([kind]) => kind)") == ["loaded", "impression"]
        link.click()
        page.wait_for_url("**/product/**")
        assert events(page, 2)[1] == ("click", key)
        page.get_by_role("button", name="Add to basket").click()
        page.wait_for_url("**/basket/")
        assert events(page, 3)[2] == ("basket", key), "the shop's own page read what the element remembers"
        assert Event.objects.get(kind="click").position == 2
        assert set(Event.objects.values_list("surface", "product_id")) == {("api", shop[0].pk)}

    def test_a_page_that_routes_by_itself_takes_the_click_over(self, visit, shop):
        def routed(page):
            page.add_init_script("document.addEventListener('similar-click', event => event.preventDefault())")

        page = visit(DESK, element("plain", shop[0]), routed)
        page.locator("similar-products a.card").first.click()
        assert sorted(kind for kind, _target in events(page, 2)) == ["click", "impression"]
        assert "/element/" in page.url
        key = page.locator("similar-products li.item").first.get_attribute("data-similarity-product")
        assert page.evaluate("key => customElements.get('similar-products').basket(key)", key) is True
        assert ("basket", key) in events(page, 3)

    def test_a_glance_does_not_count_and_the_staff_never(self, visit, shop, live_server):
        page = visit(DESK, element("lazy", shop[0], "theme=far"))
        page.evaluate("scrollTo(0, 3000)")
        names(page)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(1_200)
        assert not Event.objects.exists()
        client = Client()
        client.force_login(User.objects.create_user("clerk", is_staff=True))
        session = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}
        page.context.add_cookies([session])
        page.goto(element("plain", shop[0]))
        with page.expect_request("**/events/"):
            names(page)
        page.wait_for_timeout(200)
        assert not Event.objects.exists()


ELEMENT = "document.querySelector('similar-products')"


class TestPagesThatChange:
    """What frameworks, routers and impatient shoppers do to an element."""

    def test_a_product_that_is_taken_away_comes_back(self, visit, shop):
        page = visit(DESK, element("fallback", shop[0]))
        wanted = names(page)
        page.evaluate(f"{ELEMENT}.removeAttribute('product')")
        expect(page.get_by_role("link", name="by hand")).to_be_visible()
        page.evaluate(f"key => {ELEMENT}.setAttribute('product', key)", shop[0].pk)
        expect(page.locator("similar-products li.item")).to_have_count(4)
        assert names(page) == wanted

    def test_an_answer_for_a_product_that_was_taken_away_is_dropped(self, visit, shop):
        for change in ("removeAttribute('product')", "setAttribute('api', 'http://[')"):
            page = visit(DESK, element("fallback", shop[0]), lambda page: (listening(page), slowly(page)), fails=True)
            page.evaluate(f"{ELEMENT}.{change}")
            page.wait_for_timeout(900)
            expect(page.get_by_role("link", name="by hand")).to_be_visible()
            assert page.locator("similar-products li.item").count() == 0
            assert ["loaded", str(shop[0].pk)] not in page.evaluate("window.told")

    def test_another_look_is_no_second_view(self, visit, shop):
        page = visit(DESK, element("plain", shop[0]), listening)
        assert events(page, 1) == [("impression", None)]
        page.evaluate(
            f"""() => {{ {ELEMENT}.renderCard = result => {{ const link = document.createElement("a");
            link.href = result.url; link.className = "made"; link.textContent = result.name; return link; }} }}"""
        )
        expect(page.locator("a.made")).to_have_count(4)
        page.wait_for_timeout(1_300)
        assert page.evaluate("window.told.map(([kind]) => kind)") == ["loaded", "impression"]
        assert Event.objects.count() == 1
        # Another list is one.
        page.evaluate(f"key => {ELEMENT}.setAttribute('product', key)", shop[1].pk)
        assert [kind for kind, _target in events(page, 2)] == ["impression", "impression"]

    def test_an_element_that_is_moved_shows_what_it_showed(self, visit, shop):
        asked = []

        def listen(page):
            page.on("request", lambda request: asked.append(request.url) if "/api/" in request.url else None)

        page = visit(DESK, element("template", shop[0]), listen)
        expect(page.locator("article.own-card")).to_have_count(3)
        page.evaluate(f"document.querySelector('main').prepend({ELEMENT})")
        page.wait_for_timeout(200)
        expect(page.locator("article.own-card")).to_have_count(3)
        assert len(asked) == 1
        assert len(events(page, 1)) == 1
        # A copy, as a router keeps one of a page, asks anew.
        page.evaluate(f"document.querySelector('main').append({ELEMENT}.cloneNode(true))")
        expect(page.locator("article.own-card")).to_have_count(6)
        assert page.locator("li.item").count() == 6

    def test_room_grows_with_what_is_to_be_said(self, visit, shop):
        page = visit(DESK, element("plain", shop[0]), slowly)
        before = page.locator("similar-products .frame").bounding_box()["height"]
        page.evaluate(f"{ELEMENT}.explain = true")
        grown = page.locator("similar-products .frame").bounding_box()["height"]
        assert grown > before + 20
        names(page)
        page.wait_for_load_state("networkidle")
        assert page.locator("similar-products .frame").bounding_box()["height"] == pytest.approx(grown, abs=0.5)

    def test_language_of_the_page_around_a_component(self, visit, shop):
        page = visit(DESK, element("plain", shop[0], "language=de-AT"))
        names(page)
        asked = []
        page.on("request", lambda request: asked.append(request.headers) if "/api/" in request.url else None)
        page.evaluate(
            f"""() => {{ const host = document.createElement("x-component"), root = host.attachShadow({{mode: "open"}});
            root.append({ELEMENT}); document.querySelector("main").append(host); }}"""
        )
        page.evaluate("document.querySelector('x-component').shadowRoot.querySelector('similar-products').limit = 1")
        expect(page.get_by_role("heading", name="Ähnliche Produkte")).to_be_visible()
        expect(page.locator("similar-products [role=status]")).to_have_text("1 ähnliches Produkt")
        assert asked[-1]["accept-language"] == "de-AT"

    def test_a_language_that_no_header_may_have(self, visit, shop):
        page = visit(DESK, element("plain", shop[0]))
        names(page)
        for language in ("de_DE", "d\u0435\n"):
            page.evaluate(f"language => {{ document.documentElement.lang = language; {ELEMENT}.reload(); }}", language)
            page.wait_for_timeout(300)
            assert len(names(page)) == 4

    def test_a_widget_within_counts_only_while_it_is_seen(self, visit, shop):
        # Both come into view together, when the element has its products already.
        page = visit(DESK, element("counted", shop[0], "theme=far"))
        names(page)
        page.evaluate("scrollTo(0, 3000)")
        assert [kind for kind, _target in events(page, 1)] == ["impression"]
        page.wait_for_timeout(1_500)
        assert set(Event.objects.values_list("surface", flat=True)) == {"api"}
        # What stands in view and is shown only later is seen from then on.
        page.evaluate(f"{ELEMENT}.removeAttribute('product')")
        events(page, 2)
        assert set(Event.objects.values_list("surface", flat=True)) == {"api", "widget"}


class TestFromAnotherOrigin:
    def test_a_page_elsewhere_under_a_strict_policy(self, chromium, shop, settings):
        pytest.importorskip("corsheaders")
        from pytest_django.live_server_helper import LiveServer

        html = '<!doctype html><html lang="en"><title>Elsewhere</title><script src="{0}{1}" defer></script><main>' + (
            '<h1>Elsewhere</h1><similar-products product="{2}" limit="4" api="{0}/api/similarity/v1/">'
            "</similar-products></main></html>"
        )
        page_of = {}

        class Elsewhere(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/" else 204)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Security-Policy", page_of["policy"])
                self.end_headers()
                self.wfile.write(page_of["html"].encode() if self.path == "/" else b"")

            def log_message(self, *arguments: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{server.server_port}"
        # As docs/fronts.md has it.
        settings.CORS_ALLOWED_ORIGINS = [origin]
        settings.CORS_URLS_REGEX = r"^/api/similarity/v1/"
        settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]
        shop_server = LiveServer("localhost")
        try:
            place = shop_server.url
            page_of["html"] = html.format(place, "/static/shop_similarity/similar-products.js", shop[0].pk)
            page_of["policy"] = f"default-src 'none'; script-src {place}; connect-src {place}; img-src {place}"
            faults = []
            page = chromium.new_page()
            page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            page.goto(origin)
            assert names(page) == expected(shop[0], limit=4)
            assert events(page, 1) == [("impression", None)]
            page.locator("similar-products a.card").first.click()
            page.wait_for_url("**/product/**")
            assert len(events(page, 2)) == 2
            assert faults == []
            page.close()
        finally:
            server.shutdown()
            shop_server.stop()


def test_the_answer_may_be_kept_where_nothing_is_recorded(client, shop, settings):
    cache.clear()
    url = f"/api/similarity/v1/products/{shop[0].pk}/similar/"
    assert client.get(url)["Cache-Control"] == "no-store"
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RECORD_EVENTS": False, "WIDGET_CACHE_SECONDS": 90}
    response = client.get(url)
    assert response["Cache-Control"] == "public, max-age=90"
    assert response.json()["events_url"] is None
    assert "Accept-Language" in response["Vary"]
    again = client.get(url, headers={"If-None-Match": response["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again["Cache-Control"] == "public, max-age=90"
    Product.objects.filter(pk=response.json()["results"][0]["id"]).update(name="Another name")
    changed = client.get(url, headers={"If-None-Match": response["ETag"]})
    assert changed.status_code == 200
    assert changed["ETag"] != response["ETag"]
