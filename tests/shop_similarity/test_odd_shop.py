"""The plugin in a shop with parents, stock records, trees and text keys; models can't be exchanged in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ("tests/odd_shop/run_values.py", "tests/odd_shop/run_keys.py")


def test_everything_works_in_an_odd_shop(servers):
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.odd_shop.settings",
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.broker_url,
    }
    # A folder of its own, for the inner run removes it at its end.
    environment.pop("SHOP_TEST_FOLDER", None)
    environment.pop("PYTEST_ADDOPTS", None)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *FILES, "-q", "--ds=tests.odd_shop.settings"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
