"""The pages below docs/reference say what the code has, no less and no more."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.urls import URLResolver, include

from docs.reference_pages import checks, pages, signals, source
from shop_similarity.conf import Settings

ROOT = Path(settings.BASE_DIR)


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return {file.stem: text for file, text in pages.written().items()}


@pytest.mark.parametrize("name", pages.PAGES)
def test_the_page_is_what_the_code_has(name, written):
    assert (pages.FOLDER / f"{name}.md").read_text(encoding="utf-8") == written[name], "Run `make reference`."


def test_no_other_page_lies_among_them():
    assert {file.name for file in pages.FOLDER.iterdir()} == {f"{name}.md" for name in pages.PAGES}


def test_every_setting_is_there(written):
    for field in dataclasses.fields(Settings):
        assert f"\n## {field.name.upper()}\n" in written["settings"]


def test_every_command_is_there_with_every_option(written):
    names = {name for name, app in get_commands().items() if app.startswith("shop_similarity")}
    assert set(re.findall(r"^## (\w+)$", written["commands"], re.MULTILINE)) == names
    sections = re.split(r"^## ", written["commands"], flags=re.MULTILINE)[1:]
    for section in sections:
        name = section.splitlines()[0]
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        for option in (option for action in parser._actions for option in action.option_strings):
            if option not in ("-h", "--version", "-v") and option in section:
                continue
            assert option in COMMON, f"{name} {option}"


COMMON = {"-h", "--help", "--version", "-v", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color"}
COMMON |= {"--force-color", "--skip-checks"}


@pytest.mark.parametrize("library", ["shop_similarity", "shop_similarity_search"])
def test_every_tag_and_filter_is_there(library, written):
    register = importlib.import_module(f"shop_similarity.templatetags.{library}").register
    section = written["template_tags"].partition(f"## {library}\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (\w+)$", section, re.MULTILINE)) == {*register.tags, *register.filters}


@pytest.mark.parametrize("module", ["shop_similarity.urls", "shop_similarity.api.urls"])
def test_every_address_is_there(module, written):
    urls, app, _ = include(module)
    entries = list(urls.urlpatterns)
    names = set()
    for entry in entries:
        if isinstance(entry, URLResolver):
            entries.extend(entry.url_patterns)
        else:
            names.add(entry.name)
    assert names
    assert set(re.findall(rf"`{app}:([\w-]+)`", written["endpoints"])) == names


def test_every_check_is_there(written):
    ids = {
        name
        for file, _ in source.trees()
        for name in re.findall(r'id="(shop_similarity\w*\.\w\d+)"', (ROOT / file).read_text(encoding="utf-8"))
    }
    assert len(ids) > 20
    assert set(re.findall(r"^## (\S+)$", written["checks"], re.MULTILINE)) == ids


def test_a_check_without_a_word_in_the_docstring_is_refused(monkeypatch):
    import ast

    for text in (
        '"""None."""\nchecks.Error("wrong", id="shop_similarity.E999")',
        '"""Two.\n\nE998  one\nE999  another\n"""\nchecks.Error("wrong", id="shop_similarity.E999")',
    ):
        monkeypatch.setattr(checks, "trees", lambda text=text: [(Path("checks.py"), ast.parse(text))])
        with pytest.raises(ValueError, match="E99"):
            checks.all_checks()


def test_a_signal_says_when_it_is_sent(monkeypatch):
    import ast

    def look(text: str) -> list:
        monkeypatch.setattr(signals, "trees", lambda: [(Path("shop_similarity/x.py"), ast.parse(text))])
        return list(signals.sent_signals())

    assert look('done = Signal()\n"""When all is done."""') == [("shop_similarity.x.done", "When all is done.")]
    with pytest.raises(ValueError, match="write a string below"):
        look("done = Signal()")


def test_every_permission_is_there(written):
    from django.apps import apps

    own = {
        f"{config.label}.{codename}"
        for config in apps.get_app_configs()
        if config.name.startswith("shop_similarity")
        for model in config.get_models()
        for codename in (
            *(f"{action}_{model._meta.model_name}" for action in model._meta.default_permissions),
            *(name for name, _ in model._meta.permissions),
        )
    }
    assert set(re.findall(r"^\| `([\w.]+)` \|", written["permissions"], re.MULTILINE)) == own
