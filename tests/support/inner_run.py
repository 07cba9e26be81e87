"""Tests in a process of their own, with other settings: models and databases can't be exchanged within one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.servers import TestServers

ROOT = Path(__file__).resolve().parents[2]


def run_tests(servers: TestServers, settings: str, *arguments: str, seconds: float = 550) -> None:
    """Run pytest on the same servers and see that it passes.

    Args:
        servers: of this run.
        settings: module of Django's settings.
        arguments: files and options of pytest.
        seconds: it may take.
    """
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings,
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.broker_url,
    }
    # A folder of its own, for the inner run removes it at its end.
    environment.pop("SHOP_TEST_FOLDER", None)
    environment.pop("PYTEST_ADDOPTS", None)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--ds={settings}", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
