"""The plugin's types: mypy finds nothing, no module is left out, and what is ignored in place says why."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from django.conf import settings

ROOMS = ("shop_similarity", "training", "workers")
CONFIG = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]


def _files() -> list[Path]:
    return [file for room in ROOMS for file in sorted((settings.BASE_DIR / room).rglob("*.py"))]


def test_no_module_is_left_out():
    assert not [override for override in CONFIG["overrides"] if override.get("ignore_errors")]
    assert not [file for file in _files() if re.search(r"^# mypy:", file.read_text(encoding="utf-8"), re.MULTILINE)]


def test_what_is_ignored_in_place_has_a_code_and_a_reason():
    lines = [line for file in _files() for line in file.read_text(encoding="utf-8").splitlines()]
    ignored = [line for line in lines if "# type: ignore" in line]
    assert ignored
    assert not [line for line in ignored if not re.search(r"# type: ignore\[[a-z-]+\]  # .{10,}$", line)]


@pytest.mark.long
def test_mypy_finds_nothing(tmp_path):
    for package in ("mypy", "mypy_django_plugin"):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache"],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
