"""The generated SECRET_KEY."""

import stat
import subprocess
import sys
from pathlib import Path

from catalog.services.secret_key import secret_key

PROJECT = Path(__file__).resolve().parents[3]


def test_is_generated_once_and_private(tmp_path):
    path = tmp_path / "data" / "secret_key"
    key = secret_key(path)
    assert len(key) >= 50
    assert secret_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_processes_that_start_at_once_agree(tmp_path):
    path = tmp_path / "data" / "secret_key"
    program = (
        "import sys, pathlib; from catalog.services.secret_key import secret_key; "
        "print(secret_key(pathlib.Path(sys.argv[1])))"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    keys = {start.communicate(timeout=60)[0].strip() for start in starts}
    assert keys == {path.read_text().strip()}
    assert [file.name for file in path.parent.iterdir()] == ["secret_key"]
