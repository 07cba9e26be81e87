"""The API does what its schema says: schemathesis with all checks against every operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import modify_settings
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from pgvector import HalfVector

from shop_similarity.models import ModelVersion, VisualQuery
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

SCHEMA = "/api/similarity/v1/schema/"
SEARCH = "00000000-0000-4000-8000-000000000001"
PRODUCT = 4_711

CONFIG: dict[str, Any] = {
    "checks": {
        # 422: values that are right by themselves and lead nowhere, such as a photo of random bytes.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "401", "403", "404", "409", "422", "429", "503"],
        },
        "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]},
    },
    "generation": {"deterministic": True, "database": "none"},
}
REAL_KEYS = {
    "operations": [
        {"include-operation-id": "similar_products", "parameters": {"path.id": str(PRODUCT)}},
        {"include-operation-id": "image_search_results", "parameters": {"path.id": SEARCH}},
        {"include-operation-id": "similarity_version", "parameters": {"path.name": "drawn"}},
        {"include-operation-id": "activate_similarity_version", "parameters": {"path.name": "drawn"}},
    ]
}
FEW = settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _load(config: dict[str, Any]):
    return schemathesis.openapi.from_wsgi(SCHEMA, get_wsgi_application(), config=schemathesis.Config.from_dict(config))


anybody = _load(CONFIG)
staff = _load(CONFIG | REAL_KEYS | {"auth": {"basic": {"username": "robot", "password": "secret"}}})


@pytest.fixture
def shop(db, settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "PRICE": "price",
        "VISUAL_SEARCH_WAIT_SECONDS": 0,
        "SEARCH_RATE": None,
        "FEED_RATE": None,
        "UPLOAD_RATE": None,
        "EVENT_RATE": None,
    }
    cache.clear()
    # As Django's own test client does: the requests are made within the test's transaction.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    made = [make_product("Asked", id=PRODUCT), make_product(price=3), make_product(price=4)]
    version = make_version(metrics={"evaluation": {"recall": 0.5}})
    make_version("candidate", ModelVersion.State.CANDIDATE)
    store_vectors(version, make_photos_without_files(made), random_vectors(3))
    VisualQuery.objects.create(
        id=SEARCH, version=version, vector=HalfVector(random_vectors(1)[0]), answered_at=timezone.now()
    )
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def robot(shop):
    return User.objects.create_superuser("robot", password="secret")


@anybody.parametrize()
@FEW
def test_anybody(case, shop):
    case.call_and_validate()


@staff.parametrize()
@FEW
def test_staff_with_keys_that_exist(case, robot):
    case.call_and_validate()


def test_spectacular_finds_nothing_to_complain_about(tmp_path):
    file = tmp_path / "schema.yml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(file))
    assert "similar_to_several_products" in file.read_text(encoding="utf-8")


def test_every_operation_is_described(client, db):
    schema = client.get(SCHEMA).json()
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    assert len(operations) == 10
    assert len({operation["operationId"] for operation in operations}) == 10
    names = {tag["name"] for tag in schema["tags"]}
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= names
        for status in ("403", "405", "406", "429"):
            (content,) = operation["responses"][status]["content"].items()
            assert content[0] == "application/problem+json"
            assert content[1]["examples"]
        for status in ("200", "201", "202"):
            for content in operation["responses"].get(status, {}).get("content", {}).values():
                assert content["examples"], operation["operationId"]
        if "requestBody" in operation:
            assert all(content["examples"] for content in operation["requestBody"]["content"].values())


def test_the_committed_schema_is_the_apis(tmp_path):
    file = tmp_path / "openapi.json"
    call_command("similarity_schema", "--output", str(file))
    committed = Path(__file__).parents[3] / "clients" / "typescript" / "openapi.json"
    hint = f"run `manage.py similarity_schema --output {committed.name}` and `npm run generate` in {committed.parent}"
    assert file.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8"), hint


def test_schema_as_yaml(client, db):
    response = client.get(SCHEMA, headers={"Accept": "application/vnd.oai.openapi"})
    assert response.status_code == 200
    assert response.content.startswith(b"openapi: 3")


def test_docs_have_no_inline_script_or_style(client, db):
    response = client.get("/api/similarity/v1/docs/")
    assert response.status_code == 200
    html = response.content.decode()
    assert "<style" not in html
    assert " style=" not in html
    assert "<script>" not in html
    assert f'data-schema="{SCHEMA}"' in html


def test_docs_without_swagger_ui_say_what_to_do(client, db):
    with modify_settings(INSTALLED_APPS={"remove": ["drf_spectacular_sidecar"]}):
        html = client.get("/api/similarity/v1/docs/").content.decode()
    assert "drf_spectacular_sidecar" in html
    assert "<script" not in html
    assert f'href="{SCHEMA}"' in html
