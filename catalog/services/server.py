"""What the embedded Postgres and the embedded Valkey have in common: one folder, one lock, one start and stop."""

import logging
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from . import home
from .address import Address
from .errors import PortTakenError, ServiceError
from .lock import exclusive
from .password import create_password, open_log, read_password
from .ports import free_port
from .processes import processes_in
from .users import ServerUser, server_user

log = logging.getLogger(__name__)

PORT_ATTEMPTS = 5
LOG_LIMIT = 5 * 1024 * 1024


class EmbeddedServer(ABC):
    """A server of the shop's own, on 127.0.0.1 behind a password, with all it owns in one folder.

    The folder holds `address.json` (port, and the place of the data if it is not here), `password` (mode 0600),
    `server.log`, `lock`, and the data itself. The server runs in a session of its own: Ctrl-C in a terminal reaches
    the shop, which then stops its servers in order.

    folder: made if missing; relative paths are resolved now.
    report: receives one sentence for everything that the user should know (recovery, data placed elsewhere).
    elsewhere: where root may place data and programs that the server's user cannot reach in the project.
    """

    title: str
    program: str
    data_name: str
    start_timeout = 60.0

    def __init__(
        self,
        folder: Path | str,
        *,
        report: Callable[[str], None] | None = None,
        elsewhere: Sequence[Path] = home.ELSEWHERE,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.report = report or log.info
        self.elsewhere = elsewhere
        self._child: subprocess.Popen | None = None

    # What a user of the class needs

    @property
    @abstractmethod
    def url(self) -> str:
        """The address with user and password; the server need not run. Raises ServiceError before the first start."""

    def start(self) -> bool:
        """Start the server, after repairing what an earlier violent end left behind.

        Returns whether it had to be started: False means that it was running already.
        Raises ServiceError with a sentence where it cannot.
        """
        self._make_folder()
        with self._exclusively():
            if self._serves():
                return False
            user = self._user()
            data = self._place(user)
            self._clear_leftovers(data)
            self._prepare_data(data, user)
            for _ in range(PORT_ATTEMPTS):
                port = free_port(self.address.port)
                try:
                    self._launch(data, port, user)
                except PortTakenError:
                    continue
                self.address.write(self.address_file, port=port)
                return True
            raise ServiceError(f"{self.title} found its port taken {PORT_ATTEMPTS} times in a row. Try again.")

    def stop(self) -> bool:
        """Stop the server in order; returns whether it was running. Raises ServiceError if it does not end."""
        if not self.folder.is_dir():
            return False
        with self._exclusively():
            data = self.data
            running = bool(processes_in(data, self.program)) if data.is_dir() else False
            if running:
                self._shut_down(data)
            self._reap()
            return running

    def delete(self) -> None:
        """Stop the server and delete all it owns: its folder, and its data where that lies elsewhere."""
        self.stop()
        place = self.address.data
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def is_running(self) -> bool:
        """Whether the server runs and answers on its recorded port with its recorded password."""
        return self._serves()

    @property
    def address(self) -> Address:
        """What is recorded about the server's whereabouts."""
        return Address.read(self.address_file)

    @property
    def data(self) -> Path:
        """The data folder proper, in which the server works."""
        place = self.address.data
        return (Path(place) if place else self.folder) / self.data_name

    @property
    def password(self) -> str:
        """The server's password. Raises ServiceError before the first start."""
        password = read_password(self.password_file)
        if password is None:
            raise ServiceError(f"{self.title} in {self.folder} has no password yet, because it was never started.")
        return password

    @property
    def port(self) -> int:
        """The recorded port. Raises ServiceError before the first start."""
        port = self.address.port
        if port is None:
            raise ServiceError(f"{self.title} in {self.folder} has no address yet, because it was never started.")
        return port

    @property
    def address_file(self) -> Path:
        return self.folder / "address.json"

    @property
    def password_file(self) -> Path:
        return self.folder / "password"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    def pids(self) -> list[int]:
        """Process numbers of the server, its helpers included."""
        data = self.data
        return [process.pid for process in processes_in(data, self.program)] if data.is_dir() else []

    def __enter__(self) -> "EmbeddedServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What each server does in its own way

    @abstractmethod
    def _programs(self) -> tuple[Sequence[Path], Path]:
        """The folders to copy together, and the program in the first of them, when they cannot be reached."""

    @abstractmethod
    def _clear_leftovers(self, data: Path) -> None:
        """Deal with processes and files of a server that did not end in order."""

    @abstractmethod
    def _prepare_data(self, data: Path, user: ServerUser | None) -> None:
        """Make the data folder if there is none; explain or repair one that cannot be used."""

    @abstractmethod
    def _launch(self, data: Path, port: int, user: ServerUser | None) -> None:
        """Start the program and return when it answers. Raises PortTakenError if the port was lost meanwhile."""

    @abstractmethod
    def _serves(self) -> bool:
        """Whether this very server answers."""

    @abstractmethod
    def _shut_down(self, data: Path) -> None:
        """End the running server in order."""

    # Shared machinery

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServiceError(f"{self.folder} cannot be made: {error.strerror}.") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise ServiceError(
                f"{self.folder} belongs to another user. Start the shop as that user, or delete the folder."
            )
        if os.name == "posix" and self.folder.stat().st_uid == os.geteuid():
            # Passable for the server's user, listable for nobody else.
            self.folder.chmod(home.SEARCHABLE)

    def _exclusively(self):
        return exclusive(self.folder / "lock", timeout=self.start_timeout * 2, what=self.title)

    def _user(self) -> ServerUser | None:
        return server_user(self.data)

    def _place(self, user: ServerUser | None) -> Path:
        address = self.address
        place = home.place_data(self.folder, address.data, user, self.elsewhere)
        if place != self.folder:
            if address.data is None:
                address.write(self.address_file, data=str(place))
            self.report(
                f"{self.title} runs as the user {user.name if user else 'of this shop'}, who cannot enter "
                f"{self.folder}: its data lies in {place}."
            )
        return place / self.data_name

    def _program(self, user: ServerUser | None) -> Path:
        folders, program = self._programs()
        return home.place_programs(folders, program, user, self.report, self.elsewhere)

    def _ensure_password(self) -> str:
        return read_password(self.password_file) or create_password(self.password_file)

    def _spawn(self, arguments: Sequence[str | os.PathLike], data: Path, user: ServerUser | None, **more) -> None:
        """Start the server detached from the terminal, its output appended to the log."""
        self._reap()
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        if os.name == "posix":
            more["start_new_session"] = True
        else:
            more["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        command = [os.fspath(argument) for argument in arguments]
        with open_log(self.log_file) as output:
            self._child = subprocess.Popen(  # noqa: S603
                user.command(command) if user else command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=data,
                env=server_environment(),
                **{"stdin": subprocess.DEVNULL, **more},
            )

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait for the spawned server; if it ends or takes too long, nothing of it stays behind."""
        deadline = time.monotonic() + self.start_timeout
        try:
            while True:
                if self._child.poll() is not None:
                    raise self._explain_failure()
                if ready():
                    return
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"{self.title} did not answer within {self.start_timeout:.0f} s. Its log: {self.log_file}"
                    )
                time.sleep(0.02)
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise

    def _explain_failure(self) -> ServiceError:
        output = self._new_log()
        if "Address already in use" in output or "address already in use" in output:
            return PortTakenError(f"{self.title} found its port taken.")
        lines = [line for line in output.splitlines() if line.strip()]
        return ServiceError(
            f"{self.title} ended at its start. The end of {self.log_file}:\n" + "\n".join(lines[-8:] or ["(empty)"])
        )

    def _new_log(self) -> str:
        with self.log_file.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", "replace")

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is None and not psutil.pid_exists(self._child.pid):
            self._child.wait()
        if self._child is not None and self._child.poll() is not None:
            self._child = None


def server_environment() -> dict[str, str]:
    """The environment of a server: none of the shop's secrets, no home folder it could not enter, plain messages."""
    kept = ("PATH", "TZ", "TMPDIR", "SYSTEMROOT", "TEMP", "TMP")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C", "PGCLIENTENCODING": "UTF8"}
