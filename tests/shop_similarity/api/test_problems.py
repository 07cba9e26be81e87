"""Errors, limits of how often, and formats, whatever the shop has set for its own API."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.cache import cache
from django.test import modify_settings
from rest_framework.settings import api_settings
from rest_framework.test import APIClient

from shop_similarity.checks import check_api_docs
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

API = "/api/similarity/v1/"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _empty_cache():
    cache.clear()


@pytest.fixture
def product(db):
    made = [make_product("First"), make_product("Größe <b>")]
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(2))
    return made[0]


def problem(response, status: int, slug: str) -> dict:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    found = response.json()
    assert set(found) <= {"type", "title", "status", "detail", "errors"}
    assert found["status"] == status
    assert found["type"] == f"urn:problem-type:shop-similarity:{slug}"
    assert found["title"]
    return found


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_methods_that_are_not_known(client, product, method):
    response = getattr(client, method)(f"{API}products/{product.pk}/similar/")
    problem(response, 405, "method-not-allowed")
    assert response["Allow"] == "GET, HEAD, OPTIONS"


def test_a_user_name_that_no_database_can_hold(client, db):
    name = base64.b64encode(b"a\0b:secret").decode()
    response = client.get(f"{API}status/", headers={"Authorization": f"Basic {name}"})
    problem(response, 403, "not-authenticated")


def test_options_and_head(client, product):
    url = f"{API}products/{product.pk}/similar/"
    response = client.options(url)
    assert response.status_code == 204
    assert response["Allow"] == "GET, HEAD, OPTIONS"
    assert client.head(url).status_code == 200


def test_formats_that_can_not_be_given(client, product):
    url = f"{API}products/{product.pk}/similar/"
    problem(client.get(url, headers={"Accept": "text/html"}), 406, "not-acceptable")
    assert client.get(url, headers={"Accept": "application/json"}).status_code == 200
    assert client.get(url, headers={"Accept": "text/html, */*;q=0.1"}).status_code == 200


def test_the_format_parameter_of_the_shop_is_a_mistake_like_others(client, product):
    found = problem(client.get(f"{API}products/{product.pk}/similar/", {"format": "api"}), 400, "invalid-values")
    assert found["errors"][0]["name"] == "format"


@pytest.mark.parametrize(
    ("rate", "method", "path"),
    [
        ("SEARCH_RATE", "get", "products/1/similar/"),
        ("SEARCH_RATE", "get", "schema/"),
        ("UPLOAD_RATE", "post", "search/image/"),
        ("EVENT_RATE", "post", "events/"),
    ],
)
@pytest.mark.django_db
def test_rates(client, settings, rate, method, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, rate: "2/min"}
    send = getattr(client, method)
    for _ in range(2):
        assert send(API + path).status_code != 429
    response = send(API + path)
    problem(response, 429, "throttled")
    assert 0 < int(response["Retry-After"]) <= 60
    # Another client, who has an address of its own.
    assert send(API + path, REMOTE_ADDR="192.0.2.7").status_code != 429
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, rate: None}
    assert send(API + path).status_code != 429


@pytest.mark.django_db
def test_no_address_is_kept(client, settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "rates"}}
    from django.core.cache.backends.locmem import _caches

    client.get(API + "products/1/similar/", REMOTE_ADDR="192.0.2.99")
    assert any("search_rate" in key for key in _caches["rates"])
    assert not any("192.0.2" in key for key in _caches["rates"])


HOSTS = {
    "other formats, versions and pages": {
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.StaticHTMLRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
        "UNICODE_JSON": False,
        "COMPACT_JSON": False,
        "STRICT_JSON": False,
        "DEFAULT_CONTENT_NEGOTIATION_CLASS": "tests.shop_similarity.api.test_problems.Refusing",
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
        "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
        "ALLOWED_VERSIONS": ["9"],
        "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.CursorPagination",
        "PAGE_SIZE": 1,
    },
    "no users, other throttles and errors": {
        "UNAUTHENTICATED_USER": None,
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
        "DEFAULT_THROTTLE_RATES": {"anon": "1/day"},
        "EXCEPTION_HANDLER": "tests.shop_similarity.api.test_problems.no_handler",
        "NON_FIELD_ERRORS_KEY": "wrong",
        "COERCE_DECIMAL_TO_STRING": False,
        "DEFAULT_SCHEMA_CLASS": "rest_framework.schemas.openapi.AutoSchema",
        "DEFAULT_METADATA_CLASS": None,
        "FORMAT_SUFFIX_KWARG": "id",
        "URL_FORMAT_OVERRIDE": "limit",
    },
}

IN_SUCH_A_SHOP = """
import sys
from django.conf import settings
import tests.settings as base
values = {name: getattr(base, name) for name in dir(base) if name.isupper()}
values["REST_FRAMEWORK"] = %(rest_framework)r
values["DATABASES"] = {"default": {"ENGINE": "django.db.backends.dummy"}}
settings.configure(**values)
import django
django.setup()
from unittest import mock
from django.test import Client
from shop_similarity.models import ModelVersion
client = Client()
# Only what needs no database: the policies come before it.
response = client.get("/api/similarity/v1/products/1/similar/", {"limit": "0", "price_min": "x"})
assert response.status_code == 400, (response.status_code, response.content)
assert response["Content-Type"] == "application/problem+json", response["Content-Type"]
assert [error["name"] for error in response.json()["errors"]] == ["limit", "price_min"], response.content
response = client.post("/api/similarity/v1/events/", {"token": "x", "events": [3]}, content_type="application/json")
assert response.status_code == 400, response.content
assert response.json()["errors"][0]["name"] == "events.0", response.content
response = client.post("/api/similarity/v1/search/image/", {"crop": "x"})
assert response.status_code == 400, response.content
assert response.json()["errors"], response.content
response = client.get("/api/similarity/v1/status/")
assert response.status_code in (401, 403), response.content
assert response["Content-Type"] == "application/problem+json"
response = client.delete("/api/similarity/v1/events/")
assert response.status_code == 405, response.content
assert client.options("/api/similarity/v1/events/").status_code == 204
response = client.get("/api/similarity/v1/schema/", headers={"Accept": "application/json"})
assert response.status_code == 200, response.content
assert len(response.json()["paths"]) == 10, response.json()["paths"].keys()
print("the same everywhere")
"""


def no_handler(exc, context):
    raise AssertionError("the shop's handler was asked")


class Refusing:
    def select_parser(self, *args):
        raise AssertionError("the shop's negotiation was asked")

    select_renderer = select_parser


@pytest.mark.parametrize("host", HOSTS)
def test_the_shops_settings_change_nothing(host):
    run = subprocess.run(
        [sys.executable, "-c", IN_SUCH_A_SHOP % {"rest_framework": HOSTS[host]}],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "the same everywhere" in run.stdout


def test_answers_are_the_same_for_a_shop_that_writes_ascii(product, monkeypatch):
    monkeypatch.setattr(api_settings, "UNICODE_JSON", False)
    response = APIClient().get(f"{API}products/{product.pk}/similar/")
    assert "Größe <b>".encode() in response.content


@pytest.mark.parametrize("missing", ["rest_framework", "drf_spectacular"])
def test_clear_words_without_the_libraries(missing):
    script = f"""
import sys
sys.modules[{missing!r}] = None
from django.conf import settings
import tests.settings as base
values = {{name: getattr(base, name) for name in dir(base) if name.isupper()}}
values["INSTALLED_APPS"] = [app for app in values["INSTALLED_APPS"]
                            if not app.startswith(("rest_framework", "drf_spectacular"))]
settings.configure(**values)
import django
django.setup()
from shop_similarity.checks import check_settings
assert check_settings() == [], check_settings()
from django.core.exceptions import ImproperlyConfigured
try:
    import shop_similarity.api.urls
except ImproperlyConfigured as error:
    assert "install djangorestframework and drf-spectacular" in str(error), error
    print("clear")
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "clear" in run.stdout


def test_check_tells_of_a_docs_page_without_swagger_ui(settings):
    assert check_api_docs() == []
    with modify_settings(INSTALLED_APPS={"remove": ["drf_spectacular_sidecar"]}):
        (message,) = check_api_docs()
        assert message.id == "shop_similarity.I001"
        assert "/api/similarity/v1/docs/" in message.msg
        settings.ROOT_URLCONF = "tests.shop_similarity.api.test_problems"
        assert check_api_docs() == []


# A shop that does not mount the API.
urlpatterns: list = []
