"""A real PgBouncer in transaction mode before the Postgres of the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catalog.services.ports import HOST, free_port
from catalog.services.users import server_user
from tests.support.waiting import PATIENCE


def find_pgbouncer() -> str | None:
    return os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pgbouncer(folder: Path, database: Mapping[str, Any], sessions: int) -> Iterator[int]:
    """Runs one that gives ``sessions`` of the server to as many clients as come; yields its port.

    Args:
        folder: for its files.
        database: settings of Django's for the server behind it.
    """
    folder.mkdir()
    port = free_port()
    (folder / "users.txt").write_text(f'"{database["USER"]}" "{database["PASSWORD"]}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"""[databases]
* = host={database["HOST"]} port={database["PORT"]}
[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = users.txt
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 1000
"""
    )
    user = server_user(folder)
    if user is not None:
        for path in (folder, *folder.iterdir()):
            user.owns(path)
    command = [find_pgbouncer(), "pgbouncer.ini"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        command if user is None else user.command(command),
        cwd=folder,
        stdout=log,
        stderr=log,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection((HOST, port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        log.close()
