"""A shop for one measurement: Postgres of its own in a temporary folder, migrated, deleted at the end."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def temporary_shop() -> Iterator[Path]:
    """Django set up on an empty shop; gives the folder of its data."""
    sys.path.insert(0, str(ROOT))
    folder = Path(tempfile.mkdtemp(prefix="shop-similarity-bench-"))
    # A server that runs as another user has to come through.
    folder.chmod(0o711)
    os.environ["SHOP_DATA"] = str(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "catalog.settings"
    from catalog.services.postgres import Postgres

    server = Postgres(folder / "postgres")
    server.start()
    try:
        os.environ["DATABASE_URL"] = server.url
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield folder
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
