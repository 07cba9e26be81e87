"""A web process holds the plugin and never TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from catalog.wsgi import application
from django.test import Client
from catalog.models import Product

client = Client(HTTP_HOST="localhost")
product = Product.objects.get(name="asked")
page = client.get(product.get_absolute_url())
assert page.status_code == 200, page.status_code
assert b"look-alike" in page.content
assert client.get(f"/api/similarity/v1/products/{product.pk}/similar/").json()["results"]
product.photos.first().save()
product.save()
from django.core.management import call_command
call_command("check")
call_command("similarity_status")
loaded = sorted(name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras", "h5py"))
assert not loaded, loaded[:5]
print("clean", len(sys.modules))
"""


@pytest.mark.django_db(transaction=True)
def test_pages_api_saves_and_commands_load_no_tensorflow(servers):
    products = [make_product("asked"), make_product("look-alike")]
    store_vectors(make_version(), make_photos_without_files(products), random_vectors(2))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": servers.url_of(connection.settings_dict["NAME"]),
            "REDIS_URL": servers.broker_url,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "clean" in run.stdout
