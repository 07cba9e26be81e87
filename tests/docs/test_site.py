"""The documentation becomes a site without a warning, in which every link leads somewhere and nothing is foreign."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.snippets import ROOT, pages

# What a browser loads by itself; links that a reader may follow lead where they like.
_LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "srcset")}


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)
            if (tag, name) in _LOADED and value:
                self.loaded.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[Path, _Page]:
    for package in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(package, reason="pip install -r requirements-docs.txt")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "--keep-going",
            "-n",
            "-q",
            "-d",
            folder / "trees",
            ROOT / "docs",
            folder / "html",
        ],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {file: _Page(file.read_text(encoding="utf-8")) for file in (folder / "html").rglob("*.html")}


def test_every_page_is_in_it_and_in_its_contents(site):
    built = {file.stem for file in site}
    assert {file.stem for file in pages() if file.is_relative_to(ROOT / "docs")} <= built
    index = next(page for file, page in site.items() if file.name == "index.html" and file.parent.name == "html")
    linked = {Path(urlsplit(link).path).stem for link in index.links}
    assert {file.stem for file in pages() if file.is_relative_to(ROOT / "docs")} - {"index"} <= linked


def test_no_page_is_overwritten_by_one_of_the_generator():
    # Sphinx has a search.html and a genindex.html of its own.
    assert not {file.stem for file in (ROOT / "docs").glob("*.md")} & {"search", "genindex", "py-modindex"}


def test_every_link_leads_to_a_page_and_its_anchor(site):
    wrong, count = [], 0
    for file, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.exists():
                wrong.append(f"{file.name}: {link}")
            elif parts.fragment and target in site and unquote(parts.fragment) not in site[target].ids:
                wrong.append(f"{file.name}: {link} (no such anchor)")
    assert count > 1_000
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_nothing_is_loaded_from_elsewhere(site):
    foreign = {link for page in site.values() for link in page.loaded if urlsplit(link).netloc}
    assert foreign == set()
    folder = next(iter(site)).parents[0]
    top = next(parent for parent in (folder, *folder.parents) if parent.name == "html")
    sheets = "".join(file.read_text(encoding="utf-8") for file in top.rglob("*.css"))
    assert re.findall(r"(?:url\(\s*|@import\s+)['\"]?(?:https?:)?//[^)'\"]+", sheets) == []
