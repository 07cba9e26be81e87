"""The plugin's types: mypy finds nothing, but in the modules that pyproject.toml names as not clean yet."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
from django.conf import settings

CONFIG = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
NOT_CLEAN = {
    module
    for override in CONFIG["mypy"]["overrides"]
    if override.get("ignore_errors")
    for module in ([override["module"]] if isinstance(override["module"], str) else override["module"])
}


@pytest.mark.long
def test_the_modules_that_are_named_are_those_with_errors(tmp_path):
    for package in ("mypy", "mypy_django_plugin"):
        pytest.importorskip(package)
    text = (settings.BASE_DIR / "pyproject.toml").read_text(encoding="utf-8")
    config = tmp_path / "pyproject.toml"
    config.write_text(text.replace("ignore_errors = true", "ignore_errors = false"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", tmp_path / "cache"],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    files = set(re.findall(r"^(\S+)\.py:\d+: error:", done.stdout, re.MULTILINE))
    assert files or not NOT_CLEAN, done.stdout + done.stderr
    found = {file.removesuffix("/__init__").replace("/", ".") for file in files}
    assert found - NOT_CLEAN == set(), "new errors"
    assert NOT_CLEAN - found == set(), "clean by now: take them out of the list in pyproject.toml"
