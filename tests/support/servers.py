"""The Postgres and the Valkey of one run of the tests."""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import dj_database_url
import psutil
from django.conf import settings

from catalog.services.errors import ServiceError
from catalog.services.postgres import Postgres
from catalog.services.valkey import Valkey


class TestServers:
    """Starts servers in `folder` unless the developer gave addresses."""

    __test__ = False

    def __init__(self, folder: Path, database_url: str | None, broker_url: str | None) -> None:
        self.postgres = None if database_url else Postgres(folder / "postgres", fsync=False, settings=SMALL)
        self.valkey = None if broker_url else Valkey(folder / "valkey")
        self._database_url = database_url
        self._broker_url = broker_url

    def start(self) -> None:
        for server in (self.postgres, self.valkey):
            if server is not None:
                server.start()

    def stop(self) -> None:
        for server in (self.postgres, self.valkey):
            if server is not None:
                server.stop()

    @property
    def database_url(self) -> str:
        return self._database_url or self.postgres.url

    @property
    def broker_url(self) -> str:
        return self._broker_url or self.valkey.url

    def url_of(self, database: str) -> str:
        """The address of another database on the same Postgres."""
        return urlunsplit(urlsplit(self.database_url)._replace(path=f"/{database}"))

    def tell_django(self) -> None:
        """Write both addresses into Django's settings."""
        for values in settings.DATABASES.values():
            if values["ENGINE"] == "django.db.backends.postgresql":
                values.update(dj_database_url.parse(self.database_url))
        settings.CELERY_BROKER_URL = self.broker_url

    def empty_broker(self) -> None:
        """Forget all messages, unless the broker is the developer's."""
        if self.valkey is not None:
            self.valkey.start()
            self.valkey.client().flushall()


SMALL = {"shared_buffers": "128MB", "maintenance_work_mem": "256MB"}


def sweep_dead_runs(own: Path) -> None:
    """Stop the servers that a killed run of the tests left behind, and delete its folder."""
    for folder in own.parent.glob("shop-similarity-tests-*"):
        if folder == own:
            continue
        try:
            if not hasattr(os, "geteuid") or folder.stat().st_uid != os.geteuid():
                continue
            if psutil.pid_exists(int((folder / "owner").read_text(encoding="utf-8"))):
                continue
            Postgres(folder / "postgres").stop()
            Valkey(folder / "valkey").stop()
        except (OSError, ValueError, ServiceError):
            continue
        shutil.rmtree(folder, ignore_errors=True)
