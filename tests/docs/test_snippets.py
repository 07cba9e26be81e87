"""What the documents show works: each block is run, rendered, or held against what would read it."""

from __future__ import annotations

import configparser
import itertools
import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, models, transaction
from django.template import TemplateSyntaxError, engines
from django.test import RequestFactory
from django.test.utils import isolate_apps
from django.urls import include, path, resolve

from catalog.models import Product
from shop_similarity.models import Experiment, ModelVersion
from shop_similarity.search.aspects import store_basis
from tests.docs import python_blocks, shell
from tests.docs.snippets import Snippet, inline_commands, snippets
from tests.shop_similarity.api.test_images import answered  # noqa: F401  (a fixture)
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.shop_similarity.search.test_aspects import known_basis
from tests.vectors import random_vectors

ALL = list(snippets())

# By page and first line: what can't be run here, and why.
NOT_RUN: dict[tuple[str, str], str] = {
    ("docs/encoders.md", "import keras_hub"): "the preset is fetched from the internet; tests/training has a tiny one",
    (
        "docs/runbook.md",
        "SELECT relname, pg_size_pretty(pg_relation_size(oid)), reltuples FROM pg_class WHERE relname"
        " ~ '^shop_similarity_code_v';",
    ): "workers build the index of a version that has enough photos",
}

_SHELL = {"", "sh", "bash", "shell", "console"}
_TEMPLATES = {"django", "html", "html+django", "jinja"}
# What is shown and not typed.
_SHOWN = {"text", "csv", "diff"}
# Languages that nothing in this environment reads; what matters of them has a test of its own.
_NO_READER = {"css", "dockerfile", "nginx", "promql", "ts", "typescript", "tsx", "jsx", "vue"}


def of(*languages: str) -> dict[str, list[Snippet]]:
    """Blocks by page."""
    found = [snippet for snippet in ALL if snippet.language in languages and not is_left_out(snippet)]
    return {page: list(blocks) for page, blocks in itertools.groupby(found, key=lambda snippet: snippet.page)}


def is_left_out(snippet: Snippet) -> bool:
    return (snippet.page, snippet.text.strip().partition("\n")[0]) in NOT_RUN


def test_every_block_is_found_and_its_language_is_known():
    assert len(ALL) > 80
    known = {*_SHELL, *_TEMPLATES, *_SHOWN, *_NO_READER, *PARSERS, "python", "http", "sql"}
    assert [f"{snippet}: {snippet.language}" for snippet in ALL if snippet.language not in known] == []


def test_what_is_not_run_is_there():
    assert {(snippet.page, snippet.text.strip().partition("\n")[0]) for snippet in ALL if is_left_out(snippet)} == set(
        NOT_RUN
    )


@pytest.mark.parametrize(("page", "blocks"), of(*_SHELL).items(), ids=of(*_SHELL))
def test_commands_are_there_with_their_options(page, blocks):
    for snippet in blocks:
        try:
            assert shell.look_at(snippet.text)
        except shell.Wrong as error:
            pytest.fail(f"{snippet}\n{error}")


def test_commands_within_lines_are_there_with_their_options():
    wrong, found = [], list(inline_commands())
    for snippet in found:
        try:
            shell.look_at(snippet.text)
        except shell.Wrong as error:
            wrong.append(f"{snippet}: {error}")
    assert not wrong, "\n".join(wrong)
    assert len(found) > 30


def _javascript(text: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    done = subprocess.run(
        [node, "--input-type=module", "--check", "-"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _ini(text: str) -> None:
    # Units of systemd name a key more than once.
    configparser.RawConfigParser(strict=False, allow_no_value=True).read_string(text)


PARSERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "jsonl": lambda text: [json.loads(line) for line in text.splitlines()],
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "yml": lambda text: list(yaml.safe_load_all(text)),
    "toml": tomllib.loads,
    "ini": _ini,
    "js": _javascript,
    "javascript": _javascript,
}


@pytest.mark.parametrize("snippet", [s for s in ALL if s.language in PARSERS and not is_left_out(s)], ids=str)
def test_data_can_be_read(snippet):
    PARSERS[snippet.language](snippet.text)


def test_requests_lead_somewhere():
    for snippet in itertools.chain(*of("http").values()):
        head, _, body = snippet.text.strip().partition("\n\n")
        method, address = head.split()[:2]
        assert method in ("GET", "POST"), snippet
        resolve(address.partition("?")[0])
        assert not body or json.loads(body), snippet


@pytest.fixture
def space(db, settings, tmp_path) -> dict[str, Any]:
    """What the pages take for granted: a shop with look-alikes, a request, and what its files have imported."""
    version = make_version("mildnet-1")
    candidate = make_version("mildnet-2", ModelVersion.State.CANDIDATE)
    products = [make_product(f"Mug {number}", price=10 + number, stock=1) for number in range(6)]
    photos = make_photos_without_files(products)
    for one in (version, candidate):
        store_vectors(one, photos, random_vectors(6, clusters=1))
        store_basis(one, known_basis(), {"photos": 6})
    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.1")
    return {
        # Within an app, where models find their label.
        "__name__": "catalog.documented",
        "BASE_DIR": tmp_path,
        "product": products[0],
        "products": products,
        "request": request,
        "file": SimpleUploadedFile("mug.jpg", product_photo("mug", "red"), "image/jpeg"),
        "experiment": Experiment.objects.create(name="first", control=version, treatment=candidate),
        "admin": type(
            "module", (), {"register": lambda *models: lambda options: options, "ModelAdmin": admin.ModelAdmin}
        ),
        "my_site": admin.AdminSite("my"),
        "Product": Product,
        "models": models,
        "path": path,
        "include": include,
        "urlpatterns": [],
        "wagtail_urls": [],
        "INSTALLED_APPS": [],
        "STORAGES": {},
        "SHOP_SIMILARITY": {},
    }


@isolate_apps("catalog")
@pytest.mark.parametrize(("page", "blocks"), of("python").items(), ids=of("python"))
def test_python_runs(page, blocks, space, answered, request):  # noqa: F811
    missing = set()
    for snippet in blocks:
        try:
            python_blocks.run(snippet, space)
        except python_blocks.NotHere as error:
            missing.add(str(error))
        except Exception as error:
            raise AssertionError(f"{snippet}: {type(error).__name__}: {error}") from error
    if missing:
        pytest.skip("; ".join(f"{package}: {python_blocks.ELSEWHERE[package]}" for package in sorted(missing)))


@pytest.mark.parametrize(("page", "blocks"), of(*_TEMPLATES).items(), ids=of(*_TEMPLATES))
def test_templates_render(page, blocks, space):
    context = {"product": space["product"], "cheaper_products": Product.objects.all()}
    missing = set()
    for snippet in blocks:
        # Pages go on where an earlier block has loaded the library.
        text = (
            snippet.text
            if "{% load" in snippet.text
            else "{% load shop_similarity shop_similarity_search %}" + snippet.text
        )
        try:
            template = engines["django"].from_string(text)
        except TemplateSyntaxError as error:
            package = next(
                (name for name in python_blocks.ELSEWHERE if f"'{name}" in str(error) or f"_{name}'" in str(error)),
                None,
            )
            if package is None or "not a registered tag library" not in str(error):
                raise AssertionError(f"{snippet}: {error}") from error
            missing.add(package)
            continue
        assert template.render(context, space["request"]).strip(), snippet
    if missing:
        pytest.skip("; ".join(f"{package}: {python_blocks.ELSEWHERE[package]}" for package in sorted(missing)))


@pytest.mark.django_db
def test_statements_are_understood():
    for snippet in itertools.chain(*of("sql").values()):
        for statement in filter(str.strip, snippet.text.split(";")):
            # What waits for nobody can't run within a transaction.
            plain = statement.replace("CONCURRENTLY", "")
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(plain)
                transaction.set_rollback(True)


class TestTheMechanism:
    """It finds what is wrong."""

    @pytest.mark.parametrize(
        "line",
        [
            "python manage.py embed_product",
            "manage.py embed_products --retry-fail",
            "manage.py train_mildnet --images photos --no-such",
            "make demonstration",
            'make test ARG="-x"',
            'pip install ".[api,wroker]"',
            "pip install -r requirements-nowhere.txt",
            "celery -A shop_similarity.workers worke",
            "celery -A shop_similarity.worker worker",
            "celery -A shop worker --queue shop_similarity",
            "python -m bench.nowhere",
            "python -m bench.embedding_speed --photo FOLDER",
            "curl https://shop.example/api/similarity/v1/product/7/similar/",
            "curl -d '{broken' https://shop.example/api/similarity/v1/events/",
            "unheard-of --option",
        ],
    )
    def test_a_wrong_line(self, line):
        with pytest.raises(shell.Wrong):
            shell.look_at(line)

    @pytest.mark.parametrize(
        "text",
        [
            'SHOP_SIMILARITY = {..., "BATCH_SIZ": 3}',
            'SHOP_SIMILARITY = {\n    ...,  # the rest\n    "BATCH_SIZE": "3",\n}',
            '"PRIC": "price",',
            'INSTALLED_APPS = [..., "shop_similarity.worker"]',
            'MIDDLEWARE = [..., "shop_similarity.middleware.Experiments"]',
            "from shop_similarity.search import find_products",
            "SHOP_SIMILARITY = {",
        ],
    )
    def test_wrong_python(self, text):
        with pytest.raises((ImportError, AssertionError, SyntaxError)):
            python_blocks.run(Snippet("page.md", 3, "python", text), {})

    def test_blocks_are_found_however_they_are_fenced(self, tmp_path, monkeypatch):
        page = tmp_path / "page.md"
        page.write_text(
            "```\nmake demo\n```\n1. x\n\n   ```python title='a'\n   a = 1\n\n   ```\n~~~json\n{}\n~~~\n"
            "```{toctree}\nx\n```\n",
            encoding="utf-8",
        )
        monkeypatch.setattr("tests.docs.snippets.ROOT", tmp_path)
        found = [(snippet.line, snippet.language, snippet.text) for snippet in snippets()]
        assert found == [(2, "", "make demo\n"), (7, "python", "a = 1\n\n"), (11, "json", "{}\n")]
