"""The reference shop as it is deployed, for one measurement: Postgres, Valkey, gunicorn and a Celery worker.

All of it lives in a temporary folder and is gone afterwards, also after Ctrl-C; what a killed measurement left behind
is ended and deleted by the next one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
REAL_SHOP = ROOT.parent / "shared" / "data" / "shops"
PREFIX = "shop-similarity-run-"
SETTINGS = "bench.shop_settings"
# A worker that is asked to end finishes its batch.
PATIENCE = 30.0
RATES_OFF = {"SEARCH_RATE": None, "UPLOAD_RATE": None, "EVENT_RATE": None}
WORKER = ("-m", "celery", "-A", "shop_similarity.workers", "worker", "--loglevel=INFO")


class CannotMeasure(Exception):
    """The measurement cannot begin or go on; the sentence says why and what to do."""


@dataclass
class Setup:
    """What shop is measured.

    Attributes:
        real_network: the first version that a shop gets, of VGG16's weights; else a shrunk one of drawn weights.
        catalogue: folder with a products.csv; None for 48 products drawn by code.
        workers, threads: of gunicorn.
        similarity: keys of the SHOP_SIMILARITY setting that are changed.
    """

    real_network: bool = False
    catalogue: Path | None = None
    workers: int = 2
    threads: int = 8
    similarity: dict[str, Any] = field(default_factory=lambda: dict(RATES_OFF))


@dataclass(frozen=True)
class Target:
    """A product that visitors look at."""

    pk: int
    url: str
    plain_url: str


class RunningShop:
    """The processes of the shop; made by :func:`running_shop`."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        from catalog.services.postgres import Postgres
        from catalog.services.valkey import Valkey

        self.folder = folder
        self.setup = setup
        self.postgres = Postgres(folder / "postgres", report=lambda text: None)
        self.valkey = Valkey(folder / "valkey", report=lambda text: None)
        self.web: Any = None
        self.worker: Any = None
        self.port = 0
        self.password = ""
        self.targets: list[Target] = []
        self._seen: set[psutil.Process] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def web_log(self) -> Path:
        return self.folder / "log" / "web.log"

    @property
    def worker_log(self) -> Path:
        return self.folder / "log" / "worker.log"

    def start(self, say: Callable[[str], None]) -> None:
        say("Postgres and Valkey")
        self.postgres.start()
        self.valkey.start()
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        say("tables, catalogue, static files")
        call_command("migrate", verbosity=0)
        self._fill()
        say("model version" + (" of VGG16's weights" if self.setup.real_network else ", shrunk"))
        self._make_version()
        say("worker and gunicorn")
        self.start_worker()
        self._embed()
        connections.close_all()
        self.start_web()

    def start_worker(self) -> None:
        self.worker = self._child(WORKER, self.worker_log)

    def start_web(self, similarity: dict[str, Any] | None = None) -> None:
        """Start gunicorn, with other settings of the plugin where they are given, and wait until it answers."""
        from catalog.services.ports import free_port

        os.environ["SHOP_BENCH_SIMILARITY"] = json.dumps(self.setup.similarity if similarity is None else similarity)
        self.port = free_port()
        self.web = self._child(
            (
                *("-m", "gunicorn", "catalog.wsgi", "--bind", f"127.0.0.1:{self.port}", "--worker-class", "gthread"),
                *("--workers", str(self.setup.workers), "--threads", str(self.setup.threads), "--timeout", "30"),
                # Longer than any client pauses: a connection that is closed under a request would look like a fault.
                *("--keep-alive", "120", "--no-control-socket"),
            ),
            self.web_log,
        )
        deadline = time.monotonic() + 120
        while not self.answers("/api/similarity/v1/schema/", 10):
            if self.web.ended() is not None or time.monotonic() > deadline:
                raise CannotMeasure(f"gunicorn does not answer. The end of its log:\n{self.web.log_tail()}")
            time.sleep(0.2)

    def answers(self, path: str, timeout: float) -> bool:
        """Whether the address answers with 200 in time."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
                answer.read()
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def web_workers(self) -> set[int]:
        """Process numbers of gunicorn's workers."""
        with suppress(psutil.NoSuchProcess):
            return {process.pid for process in psutil.Process(self.web.process.pid).children()}
        return set()

    def remember_processes(self) -> None:
        """Note who is there, for a child that outlives its parent is nobody's any more and hard to find."""
        for child in (self.web, self.worker):
            with suppress(AttributeError, psutil.NoSuchProcess):
                self._seen |= set(psutil.Process(child.process.pid).children(recursive=True))

    def look_at_all(self) -> None:
        """Fetch every page that is measured, so that its small pictures are there."""
        for target in self.targets:
            for url in (target.url, target.plain_url):
                if not self.answers(url, 120):
                    raise CannotMeasure(f"{self.url}{url} does not answer. The end of the log:\n{self.web.log_tail()}")

    def stop(self) -> list[str]:
        """End everything; a sentence for each process that outlived the one that had started it."""
        from catalog.services.processes import wait_gone

        self.remember_processes()
        for child in (self.web, self.worker):
            if child is not None:
                _resume(child.process.pid)
                child.stop(PATIENCE)
        # Decoders end by themselves when nobody is at the other end.
        wait_gone(list(self._seen), 5.0)
        left = list({*left_behind(self.folder), *(process for process in self._seen if _lives(process))})
        _end(left)
        for server in (self.postgres, self.valkey):
            server.delete()
        return [f"process {process.pid} outlived the shop" for process in left]

    def _child(self, arguments: tuple[str, ...], log: Path) -> Any:
        from catalog.demo.children import Child

        return Child(arguments, folder=ROOT, log=log)

    def _fill(self) -> None:
        from django.contrib.auth import get_user_model

        from catalog.demo.static_files import collect
        from catalog.importing import load_folder
        from catalog.models import Product
        from catalog.sources.drawn import drawn_folder

        folder = self.setup.catalogue or drawn_folder(self.folder / "catalogue", lambda text: None)
        load_folder(folder, progress=False)
        collect()
        self.password = os.urandom(12).hex()
        get_user_model().objects.create_superuser("bench", password=self.password)
        shown = Product.objects.filter(photos__isnull=False, is_published=True).distinct().order_by("pk")[:200]
        self.targets = [Target(one.pk, one.get_absolute_url(), f"/without-widget/{one.slug}/") for one in shown]

    def _make_version(self) -> None:
        command = ["-m", "bench.shrunk_version"]
        if self.setup.real_network:
            command = ["manage.py", "calibrate_mildnet", "--activate", "--no-aspects"]
        child = self._child(tuple(command), self.folder / "log" / "version.log")
        if child.process.wait() != 0:
            raise CannotMeasure(f"No model version could be made:\n{child.log_tail()}")

    def _embed(self) -> None:
        from shop_similarity.embedding.sweep import sweep
        from shop_similarity.rollout.status import status

        sweep(files=False)
        deadline = time.monotonic() + 900
        while (state := status())["pending"] or state["embedded"] < state["images"]:
            if self.worker.ended() is not None or state["failed"] or time.monotonic() > deadline:
                raise CannotMeasure(f"The worker does not embed the photos: {state}\n{self.worker.log_tail()}")
            time.sleep(0.5)


def require(package: str) -> None:
    """Raises :class:`CannotMeasure` where a package is missing."""
    if importlib.util.find_spec(package) is None:
        raise CannotMeasure(f"{package} is not installed: pip install -r requirements-bench.txt")


@contextmanager
def running_shop(setup: Setup, say: Callable[[str], None]) -> Iterator[RunningShop]:
    """The shop, embedded and answering. Ends with everything gone, whatever happened.

    Raises:
        CannotMeasure: a program is missing or something does not start.
    """
    require("gunicorn")
    _clear_dead_runs(say)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    # Servers that run as another user have to come through.
    folder.chmod(0o711)
    (folder / "owner").write_text(str(os.getpid()), encoding="utf-8")
    (folder / "tmp").mkdir()
    for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "SHOP_DEBUG", "SHOP_MEDIA_URL", "SHOP_HTTPS"):
        os.environ.pop(name, None)
    os.environ |= {
        "SHOP_DATA": str(folder),
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "SHOP_BENCH_SIMILARITY": json.dumps(setup.similarity),
        "TMPDIR": str(folder / "tmp"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
    }
    sys.path.insert(0, str(ROOT))
    shop = RunningShop(folder, setup)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        shop.start(say)
        yield shop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("stopping")
        try:
            shop.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number, handler in before.items():
                signal.signal(number, handler)


def left_behind(folder: Path) -> list[psutil.Process]:
    """Living processes, other than this one, that were started with SHOP_DATA at the folder, servers left out."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("SHOP_DATA") == str(folder):
                found.append(process)
    return found


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _resume(pid: int) -> None:
    # A process that was stopped for a measurement hears of no request to end.
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).resume()


def _end(processes: list[psutil.Process]) -> None:
    from catalog.services.processes import end

    for process in processes:
        _resume(process.pid)
    end(processes, patience=5.0)


def _clear_dead_runs(say: Callable[[str], None]) -> None:
    from catalog.services.errors import ServiceError
    from catalog.services.postgres import Postgres
    from catalog.services.valkey import Valkey

    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if folder.stat().st_uid != os.geteuid() or psutil.pid_exists(int((folder / "owner").read_text())):
                continue
            say(f"clearing {folder}, which a killed run left")
            _end(left_behind(folder))
            for server in (Postgres(folder / "postgres"), Valkey(folder / "valkey")):
                server.delete()
        except (OSError, ValueError, ServiceError, subprocess.SubprocessError):
            continue
        shutil.rmtree(folder, ignore_errors=True)
