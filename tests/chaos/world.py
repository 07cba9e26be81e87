"""The servers and workers of a run, and the other process that edits the shop. Needs no Django before `set_up`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from catalog.services.postgres import Postgres
from catalog.services.valkey import Valkey
from tests.chaos.storages import IN_WORKER
from tests.support.celery_worker import CeleryWorker

PROJECT = Path(__file__).resolve().parents[2]
WORKERS = 2
CONFIG = {"width": 0.0625, "frozen_through": None}
SIZE = 32


class World:
    """Servers in a folder of their own; workers once there are versions.

    Attributes:
        postgres, valkey: the managers of the servers.
        workers: those that run now.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # As in production, or a kill would take with it what was committed.
        self.postgres = Postgres(folder / "postgres", fsync=True, settings={"shared_buffers": "64MB"})
        self.valkey = Valkey(folder / "valkey")
        self.workers: list[CeleryWorker | None] = [None] * WORKERS
        self._lock = threading.RLock()
        self._ports: tuple[int, int] | None = None
        self._started = 0

    def start_servers(self) -> None:
        """Start what does not run. Raises RuntimeError where a server came back at another port."""
        for server in (self.postgres, self.valkey):
            server.start()
        ports = (self.postgres.port, self.valkey.port)
        if self._ports not in (None, ports):
            raise RuntimeError("Another program took the port of a server while it was dead. Run it again.")
        self._ports = ports

    def set_up(self) -> None:
        """Start the servers, tell Django and make the tables."""
        self.start_servers()
        (self.folder / "static").mkdir(exist_ok=True)
        os.environ.update(self.environment())
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)

    def environment(self) -> dict[str, str]:
        """What a process of this shop has to know."""
        return {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "SHOP_DATA": str(self.folder),
            "SHOP_SECRET_KEY": "for the histories alone",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "OMP_NUM_THREADS": "1",
        }

    def start_worker(self, number: int) -> None:
        with self._lock:
            self._started += 1
            self.workers[number] = CeleryWorker(
                PROJECT,
                ["-n", f"w{self._started}@%h"],
                self.environment() | {IN_WORKER: "1"},
                self.folder / f"worker-{self._started}.log",
            )

    def wait_for_workers(self, timeout: float = 120) -> None:
        for worker in self.workers:
            worker.wait_until_ready(timeout)

    def stop(self) -> None:
        """End everything that was started."""
        for worker in self.workers:
            if worker is not None:
                # A process that is stopped hears nothing but this.
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
                worker.reap()
        for server in (self.postgres, self.valkey):
            server.stop()

    def pids(self, server: str) -> list[int]:
        return {"postgres": self.postgres, "valkey": self.valkey}[server].pids()


class Editor:
    """A second process that edits the shop: it does the actions that it is told, one after another."""

    def __init__(self, world: World) -> None:
        self._lock = threading.Lock()
        with (world.folder / "editor.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.editor"],
                cwd=PROJECT,
                env=os.environ | world.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def do(self, action: str, seed: int) -> dict[str, Any]:
        """Have it do an action; what `actions.Outcome` says of it, as JSON."""
        with self._lock:
            self._process.stdin.write(json.dumps([action, seed]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("The second process that edits the shop ended; see editor.log.")
        return json.loads(answer)

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)


def make_weights(folder: Path) -> dict[str, bytes]:
    """Weights of two small networks, by name; made in a process of its own, that this one stays free of TensorFlow."""
    with (folder / "weights.log").open("wb") as log:
        command = [sys.executable, "-m", "tests.chaos.weights", str(folder)]
        subprocess.run(command, cwd=PROJECT, check=True, timeout=300, stderr=log)
    return {path.name.partition(".")[0]: path.read_bytes() for path in sorted(folder.glob("*.weights.h5"))}


def make_versions(weights: dict[str, bytes]) -> None:
    """One version of each weights, the first one active, the others candidates."""
    from django.core.files.base import ContentFile

    from shop_similarity.models import ModelVersion
    from shop_similarity.training.networks.preprocessing import Preprocessing

    for number, (name, content) in enumerate(weights.items()):
        version = ModelVersion(
            name=name,
            architecture="mildnet",
            config=CONFIG,
            preprocessing=Preprocessing(size=SIZE).to_dict(),
            weights_sha256=hashlib.sha256(content).hexdigest(),
            state=ModelVersion.State.CANDIDATE if number else ModelVersion.State.ACTIVE,
        )
        version.weights.save(f"{name}.weights.h5", ContentFile(content), save=False)
        version.save()


def until(condition: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Wait for something; whether it came."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(pause)
    return True


@contextlib.contextmanager
def running(folder: Path) -> Iterator[World]:
    """A world that is gone in the end, whatever happens."""
    world = World(folder)
    try:
        yield world
    finally:
        world.stop()
