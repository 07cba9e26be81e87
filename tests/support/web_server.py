"""The shop under a real gunicorn, for what only a server decides: when a body is read, and what becomes of the rest."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from catalog.services.ports import HOST, free_port
from tests.support.waiting import PATIENCE


class WebServer:
    """One worker process with threads, as the shop is served; ends with :meth:`stop`."""

    def __init__(self, folder: Path, environment: dict[str, str], log: Path, worker_class: str = "gthread") -> None:
        self.port = free_port(None)
        self.log = log
        command = [sys.executable, "-m", "gunicorn", "catalog.wsgi", "--bind", f"{HOST}:{self.port}"]
        command += ["--worker-class", worker_class, "--threads", "2", "--worker-tmp-dir", "/dev/shm"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
            )

    def wait_until_ready(self, timeout: float = PATIENCE) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log.read_text(encoding="utf-8")[-3_000:]
            try:
                if b" 200 " in self.send(b"GET /similarity/search/ HTTP/1.1\r\nHost: localhost\r\n\r\n")[:20]:
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError(self.log.read_text(encoding="utf-8")[-3_000:])

    def send(self, head: bytes, size: int = 0) -> bytes:
        """Send a request whose body is ``size`` zero bytes, or as many of them as are taken; the answer."""
        return self.send_counted(head, size)[0]

    def send_counted(self, head: bytes, size: int = 0) -> tuple[bytes, int]:
        """As :meth:`send`, and how many bytes of the body were taken."""
        sent, answer = 0, b""
        with socket.create_connection((HOST, self.port), timeout=60) as connection:
            try:
                connection.sendall(head)
                while sent < size:
                    sent += connection.send(bytes(min(2**16, size - sent)))
            except OSError:
                # The server has said enough.
                pass
            try:
                while chunk := connection.recv(2**16):
                    answer += chunk
                    if b"</html>" in answer or b'"status"' in answer:
                        break
            except OSError:
                pass
        return answer, sent

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
