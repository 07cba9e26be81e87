"""A Milvus server of the tests' own, from the package ``milvus``, in a folder that goes with the run."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

# It would take another port where connections of one that was killed linger.
_SERVE = """
import socket, sys
from milvus import MilvusServer, MilvusServerConfig

class Config(MilvusServerConfig):
    def try_bind_port(self, port):
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            return None
        return taken

server = MilvusServer(Config(), data_dir=sys.argv[1])
server.config.set("proxy_port", int(sys.argv[2]))
server.start()
print("ready", server.server_proc.pid, flush=True)
server.server_proc.wait()
"""


# Left to itself the etcd within takes ports that another server on the machine may have.
_ETCD = """
name: default
data-dir: {folder}/etcd
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
"""


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("milvus", "pymilvus"))


class MilvusProcess:
    """A standalone server; it may be stopped and started again, at the same address and with its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._etcd, self._peer = _free_ports(3)
        self._starter: subprocess.Popen | None = None
        self._server = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        if self._starter is not None and self._starter.poll() is None:
            return
        # Its parts look for free ports long before they take them, and another server that starts would find the same.
        with (Path(tempfile.gettempdir()) / "shop-similarity-milvus.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._start()

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        etcd = self._folder / "etcd.yaml"
        etcd.write_text(_ETCD.format(folder=self._folder, client=self._etcd, peer=self._peer))
        self._starter = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(self._folder), str(self._port)],
            env=os.environ | {"ETCD_CONFIG_PATH": str(etcd), "ETCD_ENDPOINTS": f"127.0.0.1:{self._etcd}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        said = self._starter.stdout.readline().split()
        assert said[:1] == ["ready"], "Milvus did not start"
        self._server = int(said[1])
        deadline = time.monotonic() + 180
        while not (self._listens() and self._answers()):
            assert self._starter.poll() is None and time.monotonic() < deadline, "Milvus ended or does not answer"
            time.sleep(0.2)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return not probe.connect_ex(("127.0.0.1", self._port))

    def _answers(self) -> bool:
        from grpc import RpcError
        from pymilvus import MilvusClient, MilvusException

        try:
            client = MilvusClient(self.uri, timeout=30)
            try:
                for name in client.list_collections(timeout=30):
                    # It takes connections well before it has read what it had loaded.
                    if "Loaded" in str(client.get_load_state(name, timeout=30)):
                        client.query(name, filter="", limit=1, timeout=120)
            finally:
                client.close()
        except (MilvusException, RpcError):
            return False
        return True

    def memory_mib(self) -> int:
        """Memory of its process."""
        pages = int(Path(f"/proc/{self._server}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20

    def folder_mib(self) -> int:
        """What its data take, without its programs."""
        files = (self._folder / "data").rglob("*")
        return sum(file.stat().st_blocks for file in files if file.is_file()) // 2**11

    def stop(self) -> None:
        """Kill it, as a machine that fails would."""
        if self._starter is None:
            return
        os.kill(self._server, signal.SIGKILL)
        self._starter.wait(30)
        self._starter.stdout.close()
        self._starter = None
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if not self._listens():
                return
            time.sleep(0.1)
