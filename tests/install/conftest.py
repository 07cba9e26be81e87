"""The plugin's wheel, installed beside a shop that owns catalog, tests, training and workers; nothing of the clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from django.conf import settings

from tests.support.celery_worker import CeleryWorker
from tests.support.waiting import wait_until

HOST = Path(__file__).parent / "host"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the working tree, for an older build's leftovers would come into it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # The links stay links.
    shutil.copytree(
        settings.BASE_DIR,
        source,
        symlinks=True,
        ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "shared"),
    )
    # Without a build backend that is new enough pip fetches one.
    isolation = ["--no-build-isolation"] if int(version("setuptools").split(".")[0]) >= 77 else []
    _run([sys.executable, "-m", "pip", "wheel", "--no-deps", *isolation, "--wheel-dir", folder, source], folder)
    (made,) = folder.glob("*.whl")
    return made


def _run(command: list[Any], folder: Path, env: dict[str, str] | None = None) -> str:
    ended = subprocess.run(
        [str(part) for part in command], cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout + ended.stderr


class InstalledShop:
    """A shop in a folder and a virtual environment of its own."""

    def __init__(self, folder: Path, wheel: Path, database_url: str, broker_url: str, host: Path = HOST) -> None:
        self.folder = folder / "host"
        self.data = folder / "data"
        self.data.mkdir()
        self.log_file = folder / "host.log"
        self.database_url = database_url
        shutil.copytree(host, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        venv.create(folder / "venv", with_pip=False)
        self.python = folder / "venv" / "bin" / "python"
        self.site = folder / "venv" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        _run([sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", self.site, wheel], folder)
        # All else as in this environment, but none of the .pth files by which a clone may be in it.
        others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (self.site / "others.pth").write_text("\n".join(others), encoding="utf-8")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("SHOP_", "PYTHON"))} | {
            "DATABASE_URL": database_url,
            "REDIS_URL": broker_url,
            "HOST_DATA": str(self.data),
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        self.redis = redis.Redis.from_url(broker_url)
        self.workers: list[CeleryWorker] = []

    def manage(self, *arguments: str, celery: dict[str, Any] | None = None, **similarity: Any) -> str:
        """Output of ``manage.py``; ``celery`` and the keywords are settings of Celery and of the plugin."""
        said = _run([self.python, "manage.py", *arguments], self.folder, self.env | _settings(celery, similarity))
        with self.log_file.open("a", encoding="utf-8") as log:
            log.write(f"$ python manage.py {' '.join(arguments)}\n{said}\n")
        return said

    def run_file(self, name: str) -> str:
        """Output of a Python file in the shop's folder."""
        return _run([self.python, name], self.folder, self.env)

    def start_worker(
        self,
        *arguments: str,
        app: str = "shop_similarity.workers",
        wait: bool = True,
        without_tensorflow: bool = False,
        celery: dict[str, Any] | None = None,
        **similarity: Any,
    ) -> CeleryWorker:
        """Start ``celery -A app worker``."""
        absent = "import sys; sys.modules['tensorflow'] = None; from celery.__main__ import main; main()"
        worker = CeleryWorker(
            self.folder,
            arguments,
            self.env | _settings(celery, similarity),
            self.data / f"worker-{len(list(self.data.glob('worker-*')))}.log",
            app=app,
            program=[str(self.python), *(("-c", absent) if without_tensorflow else ("-m", "celery"))],
        )
        self.workers.append(worker)
        if wait:
            worker.wait_until_ready()
        return worker

    def count(self, table: str) -> int:
        """Rows of a table of the plugin."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(f"SELECT count(*) FROM shop_similarity_{table}").fetchone()[0]

    def messages(self, queue: str) -> int:
        """Messages that wait in a queue."""
        return self.redis.llen(f"host:{queue}")

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds."""
        wait_until(condition, lambda: "\n".join(worker.log[-4000:] for worker in self.workers))


def _settings(celery: dict[str, Any] | None, similarity: dict[str, Any]) -> dict[str, str]:
    return {"HOST_CELERY": json.dumps(celery or {}), "HOST_SIMILARITY": json.dumps(similarity)}


@pytest.fixture(scope="session")
def installed_shop(wheel: Path, servers, tmp_path_factory) -> Iterator[InstalledShop]:
    """The shop with its tables, five products, a tiny model and their embeddings; host.log is kept."""
    name = f"host_{os.getpid()}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    shop = InstalledShop(tmp_path_factory.mktemp("installed"), wheel, servers.url_of(name), servers.broker_url)
    try:
        shop.manage("check")
        shop.manage("migrate", "--run-syncdb")
        shop.manage("check", "--database", "default")
        shop.manage("add_product", "red", "blue", "green", "teal", "pink")
        shop.manage("make_tiny_model")
        yield shop
    finally:
        for worker in shop.workers:
            worker.reap()
        with psycopg.connect(servers.database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def shop(installed_shop: InstalledShop) -> Iterator[InstalledShop]:
    """The installed shop with no message waiting and no worker running."""
    for key in installed_shop.redis.scan_iter("host:*"):
        installed_shop.redis.delete(key)
    yield installed_shop
    for worker in installed_shop.workers:
        worker.reap()
        with installed_shop.log_file.open("a", encoding="utf-8") as log:
            log.write(f"$ {worker.command}\n{worker.log}\n")
    installed_shop.workers.clear()
