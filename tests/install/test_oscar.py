"""The adapter for django-oscar in an unmodified Oscar from PyPI, put in as docs/oscar.md says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
from django.conf import settings

from catalog.services.ports import HOST as ADDRESS
from catalog.services.ports import free_port
from tests.install.conftest import InstalledShop
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.long]

HERE = Path(__file__).parent
RELEASE = "django-oscar[sorl-thumbnail]==4.2.1"
LUMA = settings.BASE_DIR.parent / "shared" / "data" / "shops" / "luma"
PICTURES = os.environ.get("SHOP_TEST_PICTURES")
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DARK = DESK | {"color_scheme": "dark"}
# What an untrained network needs, and tests that do not want to wait.
SIMILARITY = {
    "DUPLICATE_SIMILARITY": 2.0,
    "CATEGORY_BOOST": 0.0,
    "WIDGET_CACHE_SECONDS": 0,
    "POLL_SECONDS": 0.2,
    "SWEEP_SECONDS": 2,
}


def documented(name: str) -> str:
    """The block of docs/oscar.md that is to be added to a file of the shop."""
    text = (settings.BASE_DIR / "docs" / "oscar.md").read_text(encoding="utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    (block,) = [block for block in blocks if block.startswith(f"# {name}\n")]
    return f"\n\n{block}"


def test_the_docs_have_the_blocks_that_are_to_be_added():
    assert "oscar_settings()" in documented("shop/settings.py")
    assert "shop_similarity.urls" in documented("shop/urls.py")


class OscarShop(InstalledShop):
    """A shop of Oscar's, with its web server."""

    def __init__(self, folder: Path, wheel: Path, database_url: str, broker_url: str) -> None:
        super().__init__(folder, wheel, database_url, broker_url, host=HERE / "oscar_shop")
        self._pip(RELEASE)
        overrides = f"""
SHOP_SIMILARITY |= {SIMILARITY!r}
STORAGES["shop_similarity"]["OPTIONS"]["location"] = DATA / "weights"
CELERY_BROKER_URL = {broker_url!r}
CELERY_BROKER_TRANSPORT_OPTIONS = {{"global_keyprefix": "oscar:"}}
"""
        for name, more in (("settings", overrides), ("urls", "")):
            with (self.folder / "shop" / f"{name}.py").open("a", encoding="utf-8") as file:
                file.write(documented(f"shop/{name}.py") + more)
        command = HERE / "host" / "catalog" / "management" / "commands" / "make_tiny_model.py"
        place = self.folder / "shop" / "management" / "commands"
        place.mkdir(parents=True)
        (place / "make_tiny_model.py").write_text(command.read_text(encoding="utf-8"), encoding="utf-8")
        with (self.folder / "shop" / "settings.py").open("a", encoding="utf-8") as file:
            file.write('INSTALLED_APPS.append("shop")\n')
        self.server: subprocess.Popen | None = None
        self.address = ""

    def _pip(self, *packages: str) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", self.site, *packages]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900, check=False)
        if done.returncode and re.search(
            r"No matching distribution|ConnectionError|Connection refused|Timeout", done.stderr
        ):
            if os.environ.get("REQUIRE_OSCAR") == "1":
                pytest.fail(done.stderr[-2000:])
            pytest.skip(f"{RELEASE} can't be had from the package index")
        assert done.returncode == 0, done.stderr[-4000:]

    def run(self, *arguments: str) -> str:
        """Output of a Python program in the shop's folder."""
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, (done.stdout[-8000:], done.stderr[-4000:])
        return done.stdout

    def serve(self) -> None:
        port = free_port(None)
        self.address = f"http://{ADDRESS}:{port}"
        with self.log_file.open("a", encoding="utf-8") as log:
            self.server = subprocess.Popen(
                [self.python, "manage.py", "runserver", "--noreload", f"{ADDRESS}:{port}"],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.server.poll() is None and time.monotonic() < deadline, self.log_file.read_text()[-4000:]
            try:
                with urlopen(f"{self.address}/similarity/search/", timeout=30):
                    return
            except OSError:
                time.sleep(0.1)

    def rows(self, statement: str, *values: object) -> list[tuple]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement, values).fetchall()

    def key(self, title: str) -> int:
        ((key,),) = self.rows("SELECT id FROM catalogue_product WHERE title = %s", title)
        return key

    def stop(self) -> None:
        for worker in self.workers:
            worker.reap()
        if self.server is not None:
            self.server.terminate()
            self.server.wait(timeout=30)


@pytest.fixture(scope="module")
def bare_shop(wheel: Path, servers, tmp_path_factory) -> Iterator[OscarShop]:
    """Oscar with its tables and the plugin's, and no product."""
    name = f"oscar_{os.getpid()}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    shop = OscarShop(tmp_path_factory.mktemp("oscar"), wheel, servers.url_of(name), servers.broker_url)
    try:
        shop.manage("migrate", "-v", "0")
        yield shop
    finally:
        shop.stop()
        with psycopg.connect(servers.database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_adapter_reads_oscars_catalogue(bare_shop):
    said = bare_shop.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--ds=shop.settings", "run_catalogue.py")
    assert " passed" in said and "failed" not in said


@pytest.fixture(scope="module")
def shop(bare_shop: OscarShop) -> OscarShop:
    """Oscar with a catalogue that a worker has embedded with a tiny network, served, with the worker running."""
    bare_shop.run("load_catalogue.py", str(LUMA) if LUMA.exists() else "-", "24")
    bare_shop.manage("make_tiny_model")
    bare_shop.start_worker()
    bare_shop.serve()
    return bare_shop


@pytest.fixture
def visit(chromium, shop: OscarShop):
    """visit(how, path) -> a page of the browser; at the end nothing may have gone wrong in it."""
    contexts, faults = [], []

    def noted(message) -> None:
        # Oscar asks a content network for jQuery first, which the machine of a test need not reach.
        if message.type == "error" and "googleapis.com" not in message.location.get("url", ""):
            faults.append(message.text)

    def open_page(how: dict, path: str, page=None):
        if page is None:
            contexts.append(chromium.new_context(base_url=shop.address, **how))
            page = contexts[-1].new_page()
            page.route("**/ajax.googleapis.com/**", lambda route: route.abort())
            page.on("console", noted)
            page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path, wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def sign_in(visit, name: str, path: str = "/dashboard/"):
    page = visit(DESK, f"/dashboard/login/?next={path}")
    page.get_by_label("Username").fill(f"{name}@example.com")
    page.get_by_label("Password").fill("secret-secret")
    page.get_by_role("button", name="Login").click()
    page.wait_for_url(f"**{path}")
    return page


def path_of(shop: OscarShop, title: str) -> str:
    ((slug, key),) = shop.rows("SELECT slug, id FROM catalogue_product WHERE title = %s", title)
    return f"/catalogue/{slug}_{key}/"


def found(page) -> list[int]:
    """Keys of the products of the widget, in its order."""
    items = page.locator(".similar-products__item")
    return [int(key) for key in items.evaluate_all("items => items.map(item => item.dataset.similarityProduct)")]


def prices(page) -> list[float]:
    return [float(text.strip("£")) for text in page.locator(".similar-products__item .price_color").all_inner_texts()]


def kept(page, name: str) -> None:
    """A picture for the eye, if somebody wants it."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"oscar-{name}.png", full_page=True)


@pytest.fixture(scope="module")
def parent(shop: OscarShop) -> tuple[int, str]:
    """Key and title of the parent that has a child which is not public."""
    ((key, title),) = shop.rows(
        "SELECT p.id, p.title FROM catalogue_product p JOIN catalogue_product c ON c.parent_id = p.id "
        "WHERE c.title = 'Secret'"
    )
    return key, title


@pytest.fixture(scope="module")
def may_be_shown(shop: OscarShop) -> set[int]:
    """Keys of the products that a widget may show, but for the one that it stands with."""
    rows = shop.rows(
        "SELECT id FROM catalogue_product WHERE parent_id IS NULL AND is_public AND title NOT IN ('Bare', 'Sold out')"
    )
    return {key for (key,) in rows}


@pytest.mark.parametrize("how", [DESK, DARK, PHONE], ids=["desk", "dark", "phone"])
def test_the_page_of_a_parent(shop, visit, parent, may_be_shown, how, request):
    key, title = parent
    page = visit(how, path_of(shop, title))
    keys = found(page)
    assert len(keys) == 8 and set(keys) <= may_be_shown - {key}
    assert len(prices(page)) == 8
    assert page.evaluate("document.documentElement.scrollWidth") <= how["viewport"]["width"]
    page.locator(".similar-products__image").last.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('.similar-products__image')].every(image => image.naturalWidth)"
    )
    kept(page, f"product-{request.node.callspec.id}")
    # Rows of equal length, words beside their boxes, and no ground behind a photo in portrait format.
    tops = page.locator(".similar-products__item").evaluate_all(
        "items => items.map(item => Math.round(item.getBoundingClientRect().top))"
    )
    rows = [tops.count(top) for top in sorted(set(tops))]
    assert rows == ([2, 2, 2, 2] if how is PHONE else [4, 4])
    middles = page.locator(".similar-products__field").evaluate_all(
        "fields => fields.map(field => [...field.children].map(part => {"
        " const box = part.getBoundingClientRect(); return box.top + box.height / 2 }))"
    )
    assert len(middles) == 2
    for field in middles:
        assert max(field) - min(field) <= 1
    grounds = page.locator(".similar-products__picture").evaluate_all(
        "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert set(grounds) == {"rgb(255, 255, 255)"}


def test_a_child_asks_with_its_photo_or_its_parents(shop, visit, parent, may_be_shown):
    key, title = parent
    of_parent = found(visit(DESK, path_of(shop, title)))
    assert found(visit(DESK, path_of(shop, f"{title}, bare"))) == of_parent
    (child,) = shop.rows(
        "SELECT c.title FROM catalogue_product c JOIN catalogue_productimage i ON i.product_id = c.id "
        "WHERE c.parent_id = %s AND c.is_public ORDER BY c.id LIMIT 1",
        key,
    )
    of_child = found(visit(DESK, path_of(shop, child[0])))
    assert len(of_child) == 8 and set(of_child) <= may_be_shown - {key}


def test_filters_of_price_and_category(shop, visit, parent, may_be_shown):
    key, title = parent
    cheapest = {
        product: price
        for product, price in shop.rows(
            "SELECT coalesce(p.parent_id, p.id), min(s.price) FROM catalogue_product p "
            "JOIN partner_stockrecord s ON s.product_id = p.id WHERE p.is_public GROUP BY 1"
        )
    }
    others = sorted(may_be_shown - {key}, key=cheapest.get)
    most = cheapest[others[4]]
    affordable = {other for other in others if cheapest[other] <= most}
    page = visit(DESK, path_of(shop, title))
    page.get_by_label("Price up to").fill(str(most))
    with page.expect_response("**/similar/**"):
        page.get_by_role("button", name="Filter").last.click()
    page.wait_for_function(f"document.querySelectorAll('.similar-products__item').length === {min(len(affordable), 8)}")
    assert set(found(page)) <= affordable
    assert len(found(page)) == min(len(affordable), 8) and max(prices(page)) <= most
    kept(page, "filtered")
    # The parent with a child for 1 that is not public does not cost 1.
    (other,) = shop.rows("SELECT title FROM catalogue_product WHERE id = %s", others[0])
    page = visit(DESK, f"{path_of(shop, other[0])}?similar_price_max=2")
    assert "No similar product matches" in page.locator("[data-similarity-widget]").inner_text()
    (category,) = shop.rows("SELECT category_id FROM catalogue_productcategory WHERE product_id = %s", key)
    same = {
        product
        for (product,) in shop.rows(
            "SELECT product_id FROM catalogue_productcategory WHERE category_id = %s", *category
        )
    }
    for asked in (title, f"{title}, bare"):
        page = visit(DESK, f"{path_of(shop, asked)}?similar_category=same")
        assert set(found(page)) == (same & may_be_shown) - {key}


def test_a_photo_uploaded_in_the_dashboard_changes_the_widget(shop, visit, tmp_path):
    path = path_of(shop, "Bare")
    page = visit(DESK, path)
    assert page.locator("[data-similarity-widget]").count() == 0
    ((key, name),) = shop.rows(
        "SELECT p.id, i.original FROM catalogue_productimage i JOIN catalogue_product p ON p.id = i.product_id "
        "WHERE p.structure = 'standalone' AND p.is_public AND p.title <> 'Sold out' ORDER BY i.id LIMIT 1"
    )
    photo = tmp_path / "bare.jpg"
    photo.write_bytes((shop.data / "media" / name).read_bytes())
    dashboard = sign_in(visit, "staff")
    kept(dashboard, "dashboard")
    assert dashboard.locator("#similar_products_status").is_visible()
    product_page = f"/dashboard/catalogue/products/{shop.key('Bare')}/"
    dashboard.goto(product_page)
    dashboard.get_by_role("link", name="Similar products").click()
    assert "no photo" in dashboard.locator("#similar_products").inner_text()
    dashboard.get_by_role("link", name="Images").click()
    dashboard.locator("#product_images input[type=file]").first.set_input_files(photo)
    before = shop.count("embedding")
    dashboard.get_by_role("button", name="Save and continue editing").click()
    dashboard.wait_for_load_state()
    shop.until(lambda: shop.count("embedding") == before + 1)
    dashboard.goto(f"{product_page}#similar_products")
    dashboard.reload()
    assert "embedded" in dashboard.locator("#similar_products").inner_text()
    kept(dashboard, "dashboard-product")
    page = visit(DESK, path)
    # It has the same photo.
    assert found(page)[0] == key
    # One worker took it within seconds, and says so.
    dashboard.goto("/dashboard/")
    assert "just now" in dashboard.locator("#similar_products_status").inner_text()


def test_partners_see_what_they_may_edit(shop, visit):
    page = sign_in(visit, "partner")
    ((own,),) = shop.rows("SELECT count(*) FROM shop_similarity_embedding WHERE product_id = %s", shop.key("Bare"))
    assert page.locator("#similar_products_status td").first.inner_text() == str(own)
    page.goto(f"/dashboard/catalogue/products/{shop.key('Bare')}/")
    assert page.locator("#product_update_tabs a[href='#similar_products']").count() == 1


@pytest.mark.parametrize("how", [DESK, DARK, PHONE], ids=["desk", "dark", "phone"])
def test_search_by_photo_is_a_page_of_oscars(shop, visit, parent, how, request, tmp_path):
    key, title = parent
    page = visit(how, path_of(shop, title))
    if how is PHONE:
        page.locator(".navbar-toggler").last.click()
        # A menu that still unfolds takes no click.
        page.locator(".navbar-collapse.show:not(.collapsing)").first.wait_for()
    page.get_by_role("link", name="Search by photo").click()
    page.wait_for_url("**/similarity/search/")
    assert page.locator("header.header").is_visible() and page.locator("h1").count() == 1
    kept(page, f"photo-search-{request.node.callspec.id}")
    (name,) = shop.rows(
        "SELECT i.original FROM catalogue_productimage i JOIN catalogue_product c ON c.id = i.product_id "
        "WHERE c.parent_id = %s AND c.is_public ORDER BY i.id LIMIT 1",
        key,
    )
    photo = tmp_path / "photo.jpg"
    photo.write_bytes((shop.data / "media" / name[0]).read_bytes())
    page.get_by_label("Choose or take a photo").set_input_files(photo)
    page.locator(".visual-search-results .similar-products__item").first.wait_for(timeout=60_000)
    assert len(prices(page)) == len(found(page)) > 8
    kept(page, f"photo-search-results-{request.node.callspec.id}")
    middles = page.locator(".visual-search-filters__field").evaluate_all(
        "fields => fields.map(field => parseFloat(getComputedStyle(field.querySelector('label')).marginBottom))"
    )
    assert set(middles) == {0}
    ground, words = page.locator(".visual-search__drop").evaluate(
        "one => [getComputedStyle(one).backgroundColor, getComputedStyle(one).color]"
    )
    assert (ground, words) == ("rgb(255, 255, 255)", "rgb(33, 37, 41)")
    page.goto(page.url)
    assert page.locator("header.header").is_visible()
    assert len(found(page)) > 8


def test_the_page_without_javascript(shop, visit, parent):
    key, _title = parent
    page = visit(DESK | {"java_script_enabled": False}, f"/similarity/products/{key}/similar/?page=1")
    assert page.locator("header.header").is_visible()
    assert len(found(page)) == 8 and len(prices(page)) == 8
