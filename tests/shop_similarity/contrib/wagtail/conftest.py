"""An unmodified Wagtail from PyPI, with Postgres, a web server and a worker of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest

from tests.support.celery_worker import CeleryWorker
from tests.support.inner_run import ROOT
from tests.support.own_environment import make_environment
from tests.support.waiting import wait_until

HOST = Path(__file__).parent / "host"
TINY_MODEL = ROOT / "tests" / "install" / "host" / "catalog" / "management" / "commands" / "make_tiny_model.py"
WAGTAIL = "wagtail>=8,<9"


class WagtailShop:
    """The host project in a folder and an environment of its own."""

    def __init__(self, folder: Path, python: Path, database_url: str, broker_url: str, products: str) -> None:
        self.folder, self.python, self.database_url = folder / "host", python, database_url
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        shutil.copytree(HOST, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(TINY_MODEL, self.folder / "shop" / "management" / "commands")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("SHOP_", "PYTHON"))} | {
            "DATABASE_URL": database_url,
            "REDIS_URL": broker_url,
            "HOST_DATA": str(self.data),
            "HOST_PRODUCTS": products,
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        self.shop: dict[str, Any] = {}
        self._ends: list[Callable[[], None]] = []

    def manage(self, *arguments: str, **similarity: Any) -> str:
        """Output of ``manage.py``; the keywords are settings of the plugin."""
        ended = subprocess.run(
            [str(self.python), "manage.py", *arguments],
            cwd=self.folder,
            env=self.env | {"HOST_SIMILARITY": json.dumps(similarity)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert ended.returncode == 0, f"{arguments}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def run(self, code: str, **similarity: Any) -> Any:
        """Run code within the shop; returns what it left in ``result``."""
        return json.loads(self.manage("run_code", code, **similarity).splitlines()[-1])

    def make(self) -> None:
        self.manage("check")
        # Pages have to be migrated; and the blocks write themselves into migrations.
        self.manage("makemigrations", "shop")
        self.manage("makemigrations", "--check")
        self.manage("migrate")
        self.manage("check", "--database", "default")

    def serve(self) -> str:
        """Start a web server; returns its address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with (self.data / "web.log").open("wb") as log:
            process = subprocess.Popen(
                [str(self.python), "manage.py", "runserver", "--noreload", "--insecure", f"localhost:{port}"],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._ends.append(lambda: (process.terminate(), process.wait(30)))
        for _second in range(300):
            try:
                urlopen(f"http://localhost:{port}/admin/login/", timeout=5).close()
                return f"http://localhost:{port}"
            except OSError:
                assert process.poll() is None, self.log()
                time.sleep(0.2)
        raise AssertionError(self.log())

    def log(self) -> str:
        return (self.data / "web.log").read_text(encoding="utf-8")[-6_000:]

    def start_worker(self) -> CeleryWorker:
        worker = CeleryWorker(
            self.folder, (), self.env, self.data / "worker.log", program=[str(self.python), "-m", "celery"]
        )
        self._ends.append(worker.reap)
        worker.wait_until_ready()
        return worker

    def rows(self, sql: str, *parameters: Any) -> list[tuple]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(sql, parameters).fetchall()

    def until(self, condition: Callable[[], Any]) -> Any:
        return wait_until(condition, self.log)

    def end(self) -> None:
        for end in reversed(self._ends):
            end()


@pytest.fixture(scope="session")
def wagtail_python(tmp_path_factory) -> Path:
    return make_environment(tmp_path_factory.mktemp("wagtail") / "venv", WAGTAIL)


@pytest.fixture(scope="module")
def wagtail_shop(wagtail_python: Path, servers, tmp_path_factory) -> Iterator[Callable[[str], WagtailShop]]:
    """``wagtail_shop("pages")`` or ``("snippets")``: a shop with its tables and nothing in them."""
    made: dict[str, WagtailShop] = {}

    def shop(products: str) -> WagtailShop:
        if products not in made:
            name = f"wagtail_{products}_{os.getpid()}"
            with psycopg.connect(servers.database_url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            folder = tmp_path_factory.mktemp(products)
            made[products] = WagtailShop(folder, wagtail_python, servers.url_of(name), servers.broker_url, products)
            made[products].make()
        return made[products]

    try:
        yield shop
    finally:
        for products, one in made.items():
            one.end()
            with psycopg.connect(servers.database_url, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE wagtail_{products}_{os.getpid()} WITH (FORCE)")
