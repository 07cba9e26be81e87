"""The plugin where products and its tables are in a database that is not ``default``; in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tests/shop_similarity", "tests/workers")
# These have databases of their own, or start servers and processes with settings of their own.
NOT_HERE = (
    "tests/shop_similarity/migrations",
    "tests/shop_similarity/test_databases.py",
    "tests/shop_similarity/test_uuid_shop.py",
    "tests/shop_similarity/test_web_process.py",
    "tests/workers/test_replica.py",
)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_everything_works_in_a_database_that_is_not_default(servers):
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.two_databases.settings",
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.broker_url,
    }
    # A folder of its own, for the inner run removes it at its end.
    environment.pop("SHOP_TEST_FOLDER", None)
    environment.pop("PYTEST_ADDOPTS", None)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *FOLDERS, *(f"--ignore={path}" for path in NOT_HERE), "-q"),
            *("-p", "tests.two_databases.plugin", "--ds=tests.two_databases.settings"),
            *("-m", "not long and not slow and not browser"),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
