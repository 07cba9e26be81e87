"""Settings of the tests: the reference shop's, in a folder of this run alone.

Both servers' addresses come from DATABASE_URL and REDIS_URL; where a developer gives none, tests/conftest.py starts
servers of its own before the first connection. Worker processes that a test starts inherit all of it.
"""

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path

FOLDER = "SHOP_TEST_FOLDER"
# Which process of pytest-xdist the folder belongs to; what a test starts inherits both.
OWNER = "SHOP_TEST_PROCESS"
_process = os.environ.get("PYTEST_XDIST_WORKER", "")

if FOLDER not in os.environ or os.environ.get(OWNER, "") != _process:
    os.environ[OWNER] = _process
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="shop-similarity-tests-")
    # A server that runs as another user has to come through.
    Path(os.environ[FOLDER]).chmod(0o711)
    (Path(os.environ[FOLDER]) / "static").mkdir()
    (Path(os.environ[FOLDER]) / "owner").write_text(str(os.getpid()), encoding="utf-8")
    atexit.register(shutil.rmtree, os.environ[FOLDER], ignore_errors=True)
os.environ["SHOP_DATA"] = os.environ[FOLDER]
os.environ.setdefault("SHOP_SECRET_KEY", "for the tests alone")

from catalog.settings import *  # noqa: E402, F403
from catalog.settings import ALLOWED_HOSTS, INSTALLED_APPS, SHOP_SIMILARITY, STORAGES  # noqa: E402

# Models of shops whose photos hang on products in other ways.
INSTALLED_APPS = [*INSTALLED_APPS, "tests.relation_shops.apps.RelationShopsConfig"]
ALLOWED_HOSTS = [*ALLOWED_HOSTS, "testserver"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}

# Tests that look at what a page shows must not be shown what an earlier one left in the cache.
SHOP_SIMILARITY = SHOP_SIMILARITY | {"WIDGET_CACHE_SECONDS": 0}
# Products that tests make have no stock, but where it matters.
SHOP_SIMILARITY = SHOP_SIMILARITY | {"IN_STOCK": None}
# Worker processes can't see what a test overrides in this process, so it tells them here.
SHOP_SIMILARITY = SHOP_SIMILARITY | json.loads(os.environ.get("SHOP_TEST_SIMILARITY", "{}"))
