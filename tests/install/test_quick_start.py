"""What docs/start.md says, done in a new shop: its blocks put where they belong, its commands run in their order."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.docs.snippets import snippets
from tests.install.conftest import HOST, InstalledShop

pytestmark = pytest.mark.slow

BLOCKS = [snippet for snippet in snippets() if snippet.page == "docs/start.md"]


def test_it_takes_less_than_fifty_lines():
    lines = [line for block in BLOCKS for line in block.text.splitlines() if line.strip()]
    assert 20 < len(lines) < 50


@pytest.fixture
def new_shop(wheel: Path, servers, tmp_path) -> Iterator[InstalledShop]:
    name = f"quick_{os.getpid()}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    shop = InstalledShop(
        tmp_path, wheel, servers.url_of(name), servers.broker_url, host=Path(__file__).parent / "quick_shop"
    )
    try:
        shop.manage("migrate", "--run-syncdb", "-v", "0")
        shop.run_file("add_photos.py")
        yield shop
    finally:
        for worker in shop.workers:
            worker.reap()
        with psycopg.connect(servers.database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _put_in(shop: InstalledShop) -> list[str]:
    """Put the page's blocks into the shop's files; returns the commands that it has typed."""
    commands = []
    for block in BLOCKS:
        if block.language == "python":
            file = shop.folder / block.text.splitlines()[0].removeprefix("# ")
            file.write_text(f"{file.read_text()}\n{block.text}")
        elif block.language == "django":
            file = shop.folder / "shop/templates/product.html"
            file.write_text(f"{file.read_text()}\n{block.text}")
        else:
            commands += block.text.splitlines()
    with (shop.folder / "shop/settings.py").open("a") as file:
        file.write(f"""
CELERY_BROKER_URL = {shop.env["REDIS_URL"]!r}
CELERY_BROKER_TRANSPORT_OPTIONS = {{"global_keyprefix": "quick:"}}
# What an untrained network needs, and a test that does not want to wait.
SHOP_SIMILARITY |= {{"DUPLICATE_SIMILARITY": 2.0, "POLL_SECONDS": 0.2, "WIDGET_CACHE_SECONDS": 0}}
""")
    # In the place of the first model of `embed_products`, whose weights would have to be fetched.
    for name in ("make_tiny_model", "show_page"):
        place = shop.folder / "shop/management/commands"
        place.mkdir(parents=True, exist_ok=True)
        text = (HOST / f"catalog/management/commands/{name}.py").read_text()
        (place / f"{name}.py").write_text(text)
    return commands


@pytest.mark.long
def test_a_shop_has_look_alikes_when_it_has_done_what_the_page_says(new_shop):
    shop = new_shop
    is_worker_started = False
    for command in _put_in(shop):
        words = shlex.split(command)
        if words[:2] == ["pip", "install"]:
            continue
        if "celery" in words:
            shop.start_worker()
            is_worker_started = True
            continue
        assert words[:2] == ["python", "manage.py"]
        if words[2] == "embed_products":
            shop.manage("make_tiny_model")
        said = shop.manage(*words[2:])
        if words[2] == "check":
            # But for the weights that find objects, which a command of their own fetches.
            assert "no issues" in said or ("1 issue" in said and "shop_similarity.I002" in said)
    assert is_worker_started
    page = shop.manage("show_page", "/product/1/")
    assert "<h1>red</h1>" in page
    assert page.count('href="/product/') == 4
    assert "similarity.js" in page and "widget.css" in page
    # And what is saved from here on follows by itself.
    shop.run_file("add_photos.py")
    shop.until(lambda: shop.count("embedding") == 10)
