"""The demo's login: its password goes where it was asked for, and into no log."""

from __future__ import annotations

import os
import pty
import re
import select
import stat
import subprocess
import sys
import time

import pytest
from django.contrib.auth import get_user_model

from catalog.demo.administrator import administrator
from catalog.services.password import read_password
from tests.support.demo_process import OF_THE_TESTS, PROJECT


@pytest.mark.django_db
def test_the_password_is_said_or_where_it_is_kept(tmp_path):
    file = tmp_path / "admin_password"
    first = administrator(tmp_path, show_password=False)
    password = read_password(file)
    assert password not in first
    assert str(file) in first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert get_user_model().objects.get(username="admin").check_password(password)
    assert password in administrator(tmp_path, show_password=True)
    assert password not in administrator(tmp_path, show_password=False)


@pytest.mark.django_db
def test_a_password_of_the_users_own_is_in_no_file(tmp_path):
    get_user_model().objects.create_superuser("admin", password="my own")
    assert "with the password you gave it" in administrator(tmp_path, show_password=False)
    assert not (tmp_path / "admin_password").exists()


def _until_the_login(data, *arguments: str, terminal: bool) -> str:
    """What a demo prints until its login, into a terminal or a pipe; it is ended then."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("SHOP_") and n not in OF_THE_TESTS}
    reader, writer = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "demo", "--port", "0", *arguments],
        cwd=PROJECT,
        env=environment | {"SHOP_DATA": str(data)},
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    os.close(writer)
    output, deadline = b"", time.monotonic() + 200
    try:
        while b"(admin" not in output or b")\n" not in output.replace(b"\r", b"").split(b"(admin")[1]:
            assert time.monotonic() < deadline, output
            if select.select([reader], [], [], 1)[0]:
                output += os.read(reader, 65536)
    finally:
        process.terminate()
        while process.poll() is None:
            if select.select([reader], [], [], 0.1)[0]:
                try:
                    os.read(reader, 65536)
                except OSError:
                    break
        process.wait(60)
        os.close(reader)
    return output.decode()


@pytest.mark.long
@pytest.mark.slow
def test_a_terminal_shows_it_and_a_log_only_when_asked_to(data, drawn_catalogue):
    catalogue = ("--folder", str(drawn_catalogue))
    log = _until_the_login(data, *catalogue, terminal=False)
    password = read_password(data / "admin_password")
    assert password not in log
    assert str(data / "admin_password") in log
    assert password in _until_the_login(data, *catalogue, terminal=True)
    assert password in _until_the_login(data, *catalogue, "--show-password", terminal=False)
    assert not re.search(re.escape(password), "".join(path.read_text() for path in (data / "log").glob("*.log")))
