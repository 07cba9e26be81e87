"""A virtual environment with packages from PyPI that this one lacks; all else is as here, the clone included."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from django.conf import settings


def make_environment(folder: Path, *requirements: str) -> Path:
    """Make it in a folder; returns its Python.

    pip leaves what is installed here as it is: what has to be another version comes into the new one.

    Raises:
        AssertionError: pip failed, with what it said.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(settings.BASE_DIR)}
    (site / "others.pth").write_text("\n".join(sorted(others)), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", *requirements]
    ended = subprocess.run(pip, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return python
