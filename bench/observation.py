"""What the processes and servers of a running shop hold: memory, files, threads, children, connections, the outbox."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import psycopg

from bench.running_shop import RunningShop

MIB = 2**20


class Observation:
    """Looks at a shop; it has one connection to its Postgres, which it does not count."""

    def __init__(self, shop: RunningShop) -> None:
        self.shop = shop
        self._connection: psycopg.Connection | None = None
        self._valkey = shop.valkey.client()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._valkey.close()

    def sample(self) -> dict[str, float]:
        """By name; what does not answer is left out."""
        found: dict[str, float] = {}
        self.shop.remember_processes()
        master, web, web_children = _family(self.shop.web.process.pid)
        worker, children, grandchildren = _family(self.shop.worker.process.pid)
        groups = {
            "web": master + web,
            "web_children": web_children,
            "worker": worker,
            "worker_children": children + grandchildren,
        }
        for name, processes in groups.items():
            found |= _held(name, processes)
        with suppress(psycopg.Error):
            found |= self._of_postgres()
        with suppress(Exception):
            info = self._valkey.info()
            # One of them is this one.
            found["valkey_clients"] = info["connected_clients"] - 1
            found["valkey_mib"] = info["used_memory"] / MIB
        found["temporary_files"] = sum(1 for _path in (self.shop.folder / "tmp").rglob("*"))
        return found

    def _of_postgres(self) -> dict[str, float]:
        if self._connection is None or self._connection.closed:
            self._connection = self.shop.postgres.connect()
        found = {}
        rows = self._connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%') FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        found["postgres_connections"], found["postgres_in_transaction"] = rows.fetchone()
        rows = self._connection.execute(
            "SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float, "
            "count(*) FILTER (WHERE failed_at IS NOT NULL) FROM shop_similarity_outboxentry"
        )
        found["outbox"], found["outbox_age_s"], found["outbox_failed"] = rows.fetchone()
        rows = self._connection.execute("SELECT count(*) FROM shop_similarity_visualquery WHERE answered_at IS NULL")
        (found["photos_waiting"],) = rows.fetchone()
        return found


def _family(pid: int) -> tuple[list[psutil.Process], list[psutil.Process], list[psutil.Process]]:
    """A process, its children, and all of theirs."""
    try:
        root = psutil.Process(pid)
        children = root.children()
        everybody = root.children(recursive=True)
    except psutil.NoSuchProcess:
        return [], [], []
    known = {child.pid for child in children}
    return [root], children, [process for process in everybody if process.pid not in known]


def _held(name: str, processes: list[psutil.Process]) -> dict[str, float]:
    """Sums over a group of processes."""
    held = {f"{name}_processes": 0, f"{name}_mib": 0.0, f"{name}_files": 0, f"{name}_threads": 0}
    for process in processes:
        with suppress(psutil.Error, OSError), process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                held[f"{name}_zombies"] = held.get(f"{name}_zombies", 0) + 1
                continue
            memory, files, threads = process.memory_info().rss / MIB, process.num_fds(), process.num_threads()
            held[f"{name}_processes"] += 1
            held[f"{name}_mib"] += memory
            held[f"{name}_files"] += files
            held[f"{name}_threads"] += threads
    return {f"{name}_zombies": 0} | held


def faults_in(log: Path) -> dict[str, int]:
    """What a log tells that no visitor may have seen: workers that were killed, and tracebacks."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    signs = {"worker timeouts": "WORKER TIMEOUT", "killed workers": "was sent SIG", "tracebacks": "Traceback (most"}
    return {name: text.count(sign) for name, sign in signs.items()}
