"""A shop for measurements: Postgres of its own in a folder, migrated; a temporary one is deleted at the end."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_servers: list[Any] = []


@contextmanager
def temporary_shop(kept: Path | None = None, **settings: str) -> Iterator[Path]:
    """Django set up on a shop; gives the folder of its data.

    Args:
        kept: folder of a shop that stays for the next measurement, made if it is not there; by default a temporary one.
        settings: further settings of Postgres.
    """
    sys.path.insert(0, str(ROOT))
    folder = kept or Path(tempfile.mkdtemp(prefix="shop-similarity-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    # A server that runs as another user has to come through.
    folder.chmod(0o711)
    os.environ["SHOP_DATA"] = str(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "catalog.settings"
    from catalog.services.postgres import Postgres

    server = Postgres(folder / "postgres", settings=settings)
    server.start()
    _servers.append(server)
    try:
        os.environ["DATABASE_URL"] = server.url
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield folder
    finally:
        _servers.remove(server)
        server.stop()
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


def make_cold() -> None:
    """Restart the shop's Postgres and have the operating system forget what it holds of its files."""
    from django.db import connection

    (server,) = _servers
    connection.close()
    server.stop()
    for path in server.data.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    server.start()
    os.environ["DATABASE_URL"] = server.url
    connection.settings_dict["PORT"] = server.port
