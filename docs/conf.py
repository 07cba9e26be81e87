"""The documentation as a site, `make docs`: Sphinx with Furo, which load nothing from other hosts.

Sphinx and not MkDocs Material, whose makers end its support in November 2026.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent

project = "shop-similarity"
version = release = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
copyright = "the shop-similarity maintainers, BSD-3-Clause"
extensions = ["myst_parser"]
# The pages are read on code hosts, too, which make anchors of headings likewise.
myst_heading_anchors = 4
exclude_patterns = ["reference_pages"]
html_theme = "furo"
html_title = f"{project} {version}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {"top_of_page_buttons": []}
highlight_language = "sh"
# Quotes in names of settings and files are typed as they are.
smartquotes = False

# The order of the pages. Those that are not named follow at the end.
SECTIONS = {
    "Start": ["start", "how_it_works", "demo", "install", "settings"],
    "Recipes": [
        "oscar",
        "wagtail",
        "recipes/s3",
        "encoders",
        "recipes/own_filter",
        "recipes/sold_out",
        "feeds",
        "recipes/headless",
        "engines",
    ],
    "In the shop": ["storefront", "fronts", "visual_search", "explanations", "photos", "api", "admin", "feedback"],
    "The model": ["training_guide", "training", "model", "searching", "rollout", "runtimes", "benchmarks"],
    "Operation": ["deployment", "monitoring", "runbook", "scaling", "migrations"],
    "Reference": [
        "reference/settings",
        "reference/commands",
        "reference/template_tags",
        "reference/endpoints",
        "reference/signals",
        "reference/checks",
        "reference/permissions",
    ],
    "About": ["architecture", "comparison"],
}


def contents() -> str:
    """A table of contents for each section, of the pages that are there."""
    there = {file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.md")} - {"index"}
    named = {page for pages in SECTIONS.values() for page in pages}
    sections = {title: [page for page in pages if page in there] for title, pages in SECTIONS.items()}
    sections["More"] = sorted(there - named)
    return "\n\n".join(
        "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"])
        for title, pages in sections.items()
        if pages
    )


def _add_contents(app, name: str, source: list[str]) -> None:
    if name == "index":
        source[0] += f"\n\n{contents()}\n"


def setup(app) -> None:
    app.connect("source-read", _add_contents)
