"""The reference shop on a server: Django's checks for production find nothing, and plain HTTP stays possible."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.demo_process import OF_THE_TESTS, PROJECT

SERVER = {"SHOP_HTTPS": "1", "SHOP_HSTS_DOMAIN": "1", "SHOP_ALLOWED_HOSTS": "shop.example"}


def run(data: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    kept = {n: v for n, v in os.environ.items() if not n.startswith("SHOP_") and n not in OF_THE_TESTS}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=kept | {"SHOP_DATA": str(data), "DJANGO_SETTINGS_MODULE": "catalog.settings"} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_checks_for_production_find_nothing(tmp_path):
    done = run(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "INFO", **SERVER)
    assert done.returncode == 0, done.stderr
    assert "no issues (0 silenced)" in done.stdout


def test_they_find_what_is_missing(tmp_path):
    done = run(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING", SHOP_DEBUG="1")
    assert done.returncode == 1
    for number in ("W004", "W008", "W012", "W016", "W018"):
        assert f"security.{number}" in done.stderr


ASK = """
import django
django.setup()
from django.http import HttpResponse
from django.middleware.security import SecurityMiddleware
from django.test import RequestFactory
middleware = SecurityMiddleware(lambda request: HttpResponse())
request = RequestFactory().get("/", headers={"host": "shop.example", "x-forwarded-proto": "https"})
response = middleware(request)
print(response.status_code, response.headers.get("Strict-Transport-Security"))
"""


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        # Plain HTTP, as on the developer's machine.
        ({}, "200 None"),
        # Anybody can send the header, so it counts only where it was named.
        ({"SHOP_HTTPS": "1"}, "301 None"),
        ({"SHOP_HTTPS": "1", "SHOP_HTTPS_HEADER": "X-Forwarded-Proto"}, "200 max-age=31536000"),
        (SERVER | {"SHOP_HTTPS_HEADER": "X-Forwarded-Proto"}, "200 max-age=31536000; includeSubDomains; preload"),
    ],
)
def test_https(tmp_path, variables, answer):
    done = run(tmp_path, "-c", ASK, **{"SHOP_ALLOWED_HOSTS": "shop.example"} | variables)
    assert done.stdout.strip() == answer, done.stderr


def test_the_demo_says_that_it_speaks_plain_http(tmp_path):
    done = run(tmp_path, "manage.py", "demo", "--check", SHOP_HTTPS="1")
    assert done.returncode == 1
    assert "start it without SHOP_HTTPS" in done.stderr
