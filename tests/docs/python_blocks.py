"""Runs the Python of a page: one block after the other, in one namespace that holds what the page takes for granted."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from django.apps import AppConfig
from django.utils.module_loading import import_string

from shop_similarity.conf import Settings, problems
from tests.docs.snippets import Snippet

GOOD = {"PRODUCT_MODEL": "catalog.Product", "IMAGES": "photos.file"}
# Packages that a shop may have and this environment has not, with what runs the pages that need them.
ELSEWHERE = {
    "oscar": "tests/install/test_oscar.py, in an Oscar from the package index",
    "wagtail": "tests/shop_similarity/contrib/wagtail, in a Wagtail from the package index",
    "modelcluster": "the same: it comes with Wagtail",
    "easy_thumbnails": "nothing: three lines of another library's own documentation",
}
_LEFT_OUT = re.compile(r"^[ \t]*(\.\.\.|…),?[ \t]*(#.*)?$|(?<=[{\[(])\.\.\.,[ \t]*", re.MULTILINE)


class NotHere(Exception):
    """The block needs a package that is in ELSEWHERE."""


def run(snippet: Snippet, space: dict[str, Any]) -> None:
    """Run a block, and hold what it sets of Django's settings against the plugin.

    Raises:
        NotHere: see there.
    """
    before = dict(space)
    try:
        exec(_compiled(snippet), space)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ELSEWHERE and importlib.util.find_spec(package) is None:
            raise NotHere(package) from error
        raise
    look_at_settings({name: value for name, value in space.items() if name.isupper() and before.get(name) is not value})


def _compiled(snippet: Snippet):
    def compiled(text: str):
        # Lines as in the page, for who reads the traceback.
        return compile("\n" * (snippet.line - 1) + text, snippet.page, "exec")

    left_out = _LEFT_OUT.sub("", snippet.text)
    for text in (snippet.text, left_out, f"PART = {{{left_out}}}"):
        try:
            return compiled(text)
        except SyntaxError:
            continue
    return compiled(snippet.text)


def look_at_settings(values: dict[str, Any]) -> None:
    """Names of apps, middleware and backends can be imported; keys and values of SHOP_SIMILARITY are taken."""
    values = values | _of_part(values.get("PART", {}))
    for name in ("INSTALLED_APPS", "MIDDLEWARE"):
        for entry in values.get(name, ()):
            if isinstance(entry, str) and entry.startswith("shop_similarity"):
                AppConfig.create(entry) if name == "INSTALLED_APPS" else import_string(entry)
    for storage in values.get("STORAGES", {}).values():
        if isinstance(storage, dict) and "BACKEND" in storage:
            import_string(storage["BACKEND"])
    if "SHOP_SIMILARITY" in values:
        wrong = problems(GOOD | values["SHOP_SIMILARITY"])
        assert not wrong, wrong


def _of_part(part: dict[str, Any]) -> dict[str, Any]:
    """A piece of a dict: keys of the plugin's settings, or a storage."""
    keys = {name.upper() for name in Settings.__dataclass_fields__}
    assert not part or set(part) <= keys or all("BACKEND" in storage for storage in part.values()), part
    return {"SHOP_SIMILARITY" if set(part) <= keys else "STORAGES": part} if part else {}
