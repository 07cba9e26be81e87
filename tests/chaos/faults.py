"""What goes wrong in a history: servers and workers killed, stopped and slowed, a storage that fails, a disk that is
full. Each fault ends by itself, and what was killed is started again, as whoever supervises a shop would do."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence

import psutil

from catalog.services.postgres import DATABASE, ROLE
from tests.chaos.plan import Step
from tests.chaos.storages import switch
from tests.chaos.world import World, until

# A fault of a worker waits so long for it to have photos in hand.
_AIM_SECONDS = 8.0
# Longer than a lease.
_FREEZE_SECONDS = 5.0
_STOP_SECONDS = 1.5
_SLOW_SECONDS = 2.0
_STORAGE_SECONDS = 4.0
_DISK_SECONDS = 6.0


class Faults:
    """Has things go wrong, each in a thread of its own.

    Attributes:
        kills: how many processes or servers got SIGKILL.
        errors: what went wrong with the faults themselves.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.kills = 0
        self.errors: list[str] = []
        self._dice = random.Random(seed)
        self._threads: list[threading.Thread] = []
        # One fault of a kind at a time: what is stopped can't be killed and started beside it.
        self._locks = {name: threading.Lock() for name in ("0", "1", "postgres", "valkey", "storage", "disk")}
        self._database_trouble = 0
        self._last_trouble = 0.0

    def begin(self, step: Step) -> None:
        """Have the step's fault come after its delay."""
        if step.fault is None:
            return
        thread = threading.Thread(target=self._run, args=(step, self._dice.random()), name=step.fault, daemon=True)
        self._threads.append(thread)
        thread.start()

    def calm(self) -> None:
        """Wait until the last fault is over, and have everything run."""
        for thread in self._threads:
            thread.join(timeout=120)
        self._threads.clear()
        for name in ("storage", "disk"):
            switch(name).unlink(missing_ok=True)
        self.world.start_servers()

    def database_was_in_trouble(self, seconds: float) -> bool:
        """Whether a fault of Postgres was on in the last seconds."""
        return bool(self._database_trouble) or time.monotonic() - self._last_trouble < seconds

    def _run(self, step: Step, luck: float) -> None:
        time.sleep(step.delay)
        name, _, target = step.fault.rpartition("_")
        try:
            match name, target:
                case "kill", "worker":
                    self._kill_worker(step.target, luck)
                case "freeze", "worker":
                    self._freeze_worker(step.target, luck)
                case "kill", "backend":
                    with self._database():
                        self._kill_backend(luck)
                case "kill", "postgres":
                    with self._database():
                        self._kill_server("postgres")
                case "kill", "valkey":
                    with self._locks["valkey"]:
                        self._kill_server("valkey")
                case "stop", "postgres":
                    with self._database():
                        self._stop("postgres", _STOP_SECONDS)
                case "stop", "valkey":
                    with self._locks["valkey"]:
                        self._stop("valkey", _STOP_SECONDS)
                case "slow", "postgres":
                    with self._database():
                        self._slow("postgres")
                case "slow", "valkey":
                    with self._locks["valkey"]:
                        self._slow("valkey")
                case _, "storage":
                    self._switch_on("storage", _STORAGE_SECONDS)
                case _, "disk":
                    self._fill_disk(step.target)
                case _:
                    raise ValueError(step.fault)
        except Exception as error:
            self.errors.append(f"{step.fault}: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def _database(self) -> Iterator[None]:
        self._database_trouble += 1
        try:
            with self._locks["postgres"]:
                yield
        finally:
            self._last_trouble = time.monotonic()
            self._database_trouble -= 1

    def _aim(self, number: int, luck: float) -> None:
        """Wait until the worker has photos in hand, then a little, so that any moment of a batch is hit."""
        with contextlib.suppress(Exception):
            until(lambda: self._has_photos(number), _AIM_SECONDS)
        time.sleep(luck * 0.1)

    def _has_photos(self, number: int) -> bool:
        # A connection of its own: the fault's thread is not the shop's.
        with self.world.postgres.connect() as connection:
            (found,) = connection.execute(
                "SELECT EXISTS (SELECT FROM shop_similarity_outboxentry WHERE leased_until > now() "
                "AND claimed_by LIKE %s)",
                [f"%|{self.world.workers[number].pid}|%"],
            ).fetchone()
        return found

    def _kill_worker(self, number: int, luck: float) -> None:
        with self._locks[str(number)]:
            self._aim(number, luck)
            self.world.workers[number].kill()
            self.kills += 1
            self.world.start_worker(number)

    def _freeze_worker(self, number: int, luck: float) -> None:
        with self._locks[str(number)]:
            self._aim(number, luck)
            pid = self.world.workers[number].pid
            with _stopped([pid]):
                time.sleep(_FREEZE_SECONDS)

    def _kill_backend(self, luck: float) -> None:
        """One session's process: Postgres ends all the others and recovers."""
        sessions = []
        for pid in self.world.pids("postgres"):
            # A session may end on its own between any two lines.
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if f" {ROLE} {DATABASE} " in " ".join(process.cmdline()):
                    sessions.append(process)
        if sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                sessions[int(luck * len(sessions))].send_signal(signal.SIGKILL)
                self.kills += 1
        until(self.world.postgres.is_running, 30)
        self.world.postgres.start()

    def _kill_server(self, server: str) -> None:
        for pid in self.world.pids(server):
            _send(pid, signal.SIGKILL)
        self.kills += 1
        getattr(self.world, server).start()

    def _stop(self, server: str, seconds: float) -> None:
        with _stopped(self.world.pids(server)):
            time.sleep(seconds)

    def _slow(self, server: str) -> None:
        """Stopped for most of the time, a moment at a time."""
        ends = time.monotonic() + _SLOW_SECONDS
        while time.monotonic() < ends:
            self._stop(server, 0.08)
            time.sleep(0.02)

    def _switch_on(self, name: str, seconds: float) -> None:
        with self._locks[name]:
            switch(name).touch()
            try:
                time.sleep(seconds)
            finally:
                switch(name).unlink(missing_ok=True)

    def _fill_disk(self, number: int) -> None:
        """A worker that starts finds no room for its copy of the weights."""
        with self._locks["disk"], self._locks[str(number)]:
            from tests.chaos.settings import WEIGHTS_CACHE

            switch("disk").touch()
            try:
                for copy in WEIGHTS_CACHE.glob("*"):
                    copy.unlink(missing_ok=True)
                self.world.workers[number].kill()
                self.kills += 1
                self.world.start_worker(number)
                time.sleep(_DISK_SECONDS)
            finally:
                switch("disk").unlink(missing_ok=True)


@contextlib.contextmanager
def _stopped(pids: Sequence[int]) -> Iterator[None]:
    for pid in pids:
        _send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            _send(pid, signal.SIGCONT)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
