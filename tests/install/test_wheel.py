"""What is in the wheel, and that it works in a shop whose packages have the names of the plugin's folders."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from django.conf import settings

pytestmark = pytest.mark.slow


def test_nothing_but_the_plugin_stands_in_the_wheel_and_all_of_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"shop_similarity"}
    package = settings.BASE_DIR / "shop_similarity"
    wanted = {
        f"shop_similarity/{file.relative_to(package)}"
        for folder in (package, package / "training", package / "workers")
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".po"
    }
    for kind in (".py", ".mo", ".css", ".js", ".html", "py.typed"):
        assert any(name.endswith(kind) for name in wanted)
    assert {"shop_similarity/training/report/page.html", "shop_similarity/workers/tasks.py"} <= wanted
    assert names - wanted == {name for name in names if ".dist-info/" in name}
    assert wanted <= names


@pytest.mark.long
def test_a_shop_with_packages_of_the_same_names_is_served(shop):
    lines = [line.split(": ", 1) for line in shop.manage("show_modules").splitlines()]
    places = dict(lines)
    for name in ("catalog", "tests", "training", "workers"):
        assert Path(places[name]).is_relative_to(shop.folder)
    assert Path(places["shop_similarity.workers"]).parents[1] == shop.site / "shop_similarity"
    # Nothing of the clone can have been imported instead.
    folders = {Path(place) for name, place in lines if name == "path"}
    assert {folder for folder in folders if (folder / "shop_similarity").exists()} == {shop.site}
    assert shop.count("embedding") >= 5
    page = shop.manage("show_page", "/products/1/")
    assert "red</h1>" in page
    assert page.count('href="/products/') == 4
    before = shop.count("embedding")
    shop.start_worker()
    said = shop.manage("add_product", "grey")
    shop.until(lambda: shop.count("embedding") == before + 1)
    assert shop.manage("show_page", said.split()[1]).count('href="/products/') == 4
    print(shop.log_file.read_text(encoding="utf-8"))
