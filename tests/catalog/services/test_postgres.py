"""The embedded Postgres: real starts, real kills."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from catalog.services.errors import ServiceError
from catalog.services.postgres import Postgres
from catalog.services.processes import is_alive, wait_gone

PROJECT = Path(__file__).resolve().parents[3]


def postmaster(server: Postgres) -> psutil.Process:
    return psutil.Process(int((server.data / "postmaster.pid").read_text().splitlines()[0]))


def write(server: Postgres, text: str) -> None:
    with server.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (text text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [text])


def read(server: Postgres) -> list[str]:
    with server.connect() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM kept ORDER BY text")]


def test_starts_stops_and_keeps_its_data(make_postgres):
    server = make_postgres()
    assert server.is_running() is False
    assert server.start() is True
    assert server.start() is False, "it was running already"
    write(server, "first")
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT '[1,2]'::text").fetchone()
        connection.execute("CREATE EXTENSION vector")
        assert connection.execute("SELECT '[1,2]'::halfvec(2) <=> '[2,4]'").fetchone()[0] == pytest.approx(0)
    url = server.url
    assert server.stop() is True
    assert server.is_running() is False
    assert server.pids() == []
    assert server.stop() is False
    assert server.start() is True
    assert server.url == url, "the free port is used again"
    assert read(server) == ["first"]


def test_listens_on_loopback_alone_and_wants_the_password(make_postgres):
    server = make_postgres()
    server.start()
    listening = {c.laddr.ip for c in postmaster(server).net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    assert not postmaster(server).net_connections("unix") or not list(server.folder.rglob(".s.PGSQL*"))
    assert stat.S_IMODE(server.password_file.stat().st_mode) == 0o600
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url.replace(server.password, "wrong"))
    assert server.password not in " ".join(postmaster(server).cmdline())


def test_survives_a_killed_postmaster(make_postgres):
    server = make_postgres(fsync=True)
    server.start()
    write(server, "before the kill")
    dead = postmaster(server)
    dead.kill()
    again = make_postgres()
    again.start()
    assert postmaster(again).pid != dead.pid
    assert read(again) == ["before the kill"]


@pytest.mark.long
def test_ends_a_child_that_a_killed_postmaster_left_at_work(make_postgres):
    server = make_postgres()
    server.start()
    busy = server.connect()
    pid = busy.info.backend_pid
    # A backend deep in a computation does not notice that its postmaster is gone.
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 100000000000)")
    time.sleep(0.3)
    postmaster(server).kill()
    again = make_postgres()
    again.start()
    assert not is_alive(pid)
    assert read_version(again)
    busy.close()


def test_uses_a_server_that_outlived_its_manager(make_postgres):
    server = make_postgres()
    server.start()
    pid = postmaster(server).pid
    again = make_postgres()
    assert again.start() is False
    assert postmaster(again).pid == pid
    assert again.stop() is True
    assert wait_gone([psutil.Process(pid)] if psutil.pid_exists(pid) else [], 5) == []


def test_does_not_take_another_process_for_its_postmaster(make_postgres):
    server = make_postgres()
    server.start()
    write(server, "kept")
    text = (server.data / "postmaster.pid").read_text()
    server.stop()
    owner = server.data.stat()
    stranger = subprocess.Popen(
        ["sleep", "60"], **({"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {})
    )
    try:
        stale = server.data / "postmaster.pid"
        stale.write_text("\n".join([str(stranger.pid), *text.splitlines()[1:]]) + "\n")
        os.chown(stale, owner.st_uid, owner.st_gid)
        assert server.is_running() is False
        server.start()
        assert read(server) == ["kept"]
        assert stranger.poll() is None, "the stranger was left alone"
    finally:
        stranger.kill()
        stranger.wait()


def test_moves_a_half_written_cluster_aside(make_postgres, reports):
    server = make_postgres()
    server.start()
    server.stop()
    (server.data / "global" / "pg_control").unlink()
    server.start()
    write(server, "new")
    aside = list(server.folder.glob("cluster.damaged-*"))
    assert len(aside) == 1
    assert (aside[0] / "PG_VERSION").exists(), "nothing was deleted"
    assert any("incomplete" in text and str(aside[0]) in text for text in reports)


def test_an_initdb_that_was_killed_leaves_nothing_behind(make_postgres, folder):
    half = folder / "new-killed" / "cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = make_postgres()
    server.start()
    assert not half.exists()
    assert read_version(server).startswith("18")


def read_version(server: Postgres) -> str:
    with server.connect() as connection:
        return connection.execute("SHOW server_version").fetchone()[0]


def test_explains_and_does_not_touch_a_cluster_of_another_version(make_postgres):
    server = make_postgres()
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("16\n")
    before = {path: path.stat().st_mtime_ns for path in server.data.rglob("*")}
    with pytest.raises(ServiceError, match=r"written by Postgres 16, but .* brings Postgres 18"):
        server.start()
    assert {path: path.stat().st_mtime_ns for path in server.data.rglob("*")} == before
    (server.data / "PG_VERSION").write_text("18\n")
    assert server.start() is True


def test_takes_another_port_when_its_own_is_taken(make_postgres):
    server = make_postgres()
    server.start()
    write(server, "kept")
    old = server.port
    server.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", old))
        taken.listen()
        server.start()
        assert server.port != old
        assert read(server) == ["kept"]


def test_tries_again_when_the_port_is_lost_while_it_starts(make_postgres, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        lost = taken.getsockname()[1]
        from catalog.services import ports, server

        offered = iter([lost])
        monkeypatch.setattr(server, "free_port", lambda preferred: next(offered, None) or ports.free_port())
        postgres = make_postgres()
        postgres.start()
        assert postgres.port != lost
        assert postgres.is_running()


def test_a_lost_password_is_replaced(make_postgres, reports):
    server = make_postgres()
    server.start()
    write(server, "kept")
    server.stop()
    server.password_file.unlink()
    server.start()
    assert read(server) == ["kept"]
    assert any("new one" in text for text in reports)


def test_two_starts_at_once_make_one_server(make_postgres, folder):
    program = (
        "import sys, json; from catalog.services.postgres import Postgres; "
        "server = Postgres(sys.argv[1], fsync=False); started = server.start(); "
        "print(json.dumps([started, server.url]))"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", program, str(folder)], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [json.loads(start.communicate(timeout=120)[0]) for start in starts]
    assert sorted(started for started, _url in answers) == [False, False, True]
    assert len({url for _started, url in answers}) == 1
    server = make_postgres()
    assert server.is_running()
    assert server.stop()


def test_a_signal_to_the_foreground_group_does_not_reach_the_server(make_postgres):
    server = make_postgres()
    server.start()
    assert os.getsid(postmaster(server).pid) != os.getsid(0)
    assert os.getpgid(postmaster(server).pid) != os.getpgid(0)


def test_a_server_that_does_not_answer_is_started_anew(make_postgres):
    server = make_postgres()
    server.start()
    write(server, "kept")
    # A record without the port is what a manager leaves that was killed before it could write it.
    server.address.write(server.address_file, port=None)
    dead = postmaster(server).pid
    server.start()
    assert postmaster(server).pid != dead
    assert read(server) == ["kept"]


def test_a_start_that_fails_says_why(make_postgres):
    server = make_postgres()
    server.settings |= {"shared_buffers": "nonsense"}
    with pytest.raises(ServiceError, match=r'invalid value for parameter "shared_buffers"'):
        server.start()
    assert server.pids() == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root changes users")
class TestAsRoot:
    def test_the_server_runs_as_somebody_else(self, make_postgres):
        server = make_postgres()
        server.start()
        uids = postmaster(server).uids()
        assert 0 not in uids
        assert server.data.stat().st_uid == uids.real
        assert server.folder.stat().st_uid == 0, "only the data changes hands"
        assert server.password_file.stat().st_uid == 0

    def test_data_moves_to_a_place_that_the_server_can_reach(self, make_postgres, folder, reports, tmp_path_factory):
        folder.chmod(0o700)
        private = folder / "project" / "postgres"
        elsewhere = Path(os.path.commonpath([folder.parent])) / f"{folder.name}-elsewhere"
        server = Postgres(private, fsync=False, report=reports.append, elsewhere=[elsewhere])
        try:
            server.start()
            write(server, "kept")
            assert elsewhere in server.data.parents
            assert any(str(elsewhere) in text and "cannot enter" in text for text in reports)
            server.stop()
            again = Postgres(private, fsync=False, elsewhere=[elsewhere])
            again.start()
            assert again.data == server.data
            assert read(again) == ["kept"]
        finally:
            server.delete()
            leftover = list(elsewhere.glob("*/cluster"))
            subprocess.run(["rm", "-rf", str(elsewhere)], check=True)
        assert leftover == []

    def test_a_question_that_was_cut_short_is_not_a_no(self, folder, monkeypatch):
        from catalog.services import users

        user = users.server_user(folder / "none")
        assert user.can_enter(folder) is True
        folder.chmod(0o700)
        assert user.can_enter(folder) is False
        killed = folder / "killed"
        killed.write_text("#!/bin/sh\nkill -INT $$\n")
        killed.chmod(0o755)
        folder.chmod(0o711)
        monkeypatch.setattr(users, "SHELL", str(killed))
        with pytest.raises(ServiceError, match="could not be found out"):
            user.can_enter(folder)

    @pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv takes rights away")
    def test_root_that_may_not_change_the_user_says_what_to_do(self, folder):
        script = f"""
from pathlib import Path
from catalog.services.users import server_user

server_user(Path({str(folder)!r}, "none")).can_enter(Path("/"))
"""
        done = subprocess.run(
            ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid", sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Root is not allowed to start a server as the user" in done.stderr
        assert "Start the shop as an ordinary user, or give DATABASE_URL and REDIS_URL." in done.stderr

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell so")
    def test_a_program_is_started_as_any_other_but_for_its_user(self, folder):
        from catalog.services.users import server_user

        user = server_user(folder / "none")
        lines = {}
        for command in (["cat", "/proc/self/status"], user.command(["/bin/cat", "/proc/self/status"])):
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            lines[command[0]] = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
        root, other = lines["cat"], lines[sys.executable]
        assert (other["Uid"], other["Gid"]) == ("\t".join([str(user.uid)] * 4), "\t".join([str(user.gid)] * 4))
        assert other["Groups"].strip() == ""
        assert [other[name] for name in ("SigIgn", "SigBlk", "Umask")] == [
            root[name] for name in ("SigIgn", "SigBlk", "Umask")
        ]

    def test_no_fork_waits_for_a_thread_that_multiplies(self, folder):
        folder.chmod(0o711)
        script = f"""
import threading
import numpy as np
from pathlib import Path
from catalog.services.users import server_user

answered = threading.Event()

def multiply():
    numbers = np.ones((500, 500))
    while not answered.is_set():
        numbers @ numbers

thread = threading.Thread(target=multiply, daemon=True)
thread.start()
folder = Path({str(folder)!r})
user = server_user(folder / "none")
print([user.can_enter(folder) for _ in range(60)].count(True))
answered.set()
thread.join()
"""
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.stdout.strip(), done.stderr) == ("60", "")

    def test_programs_are_copied_where_the_server_can_execute_them(self, make_postgres, folder, monkeypatch, reports):
        from catalog.services import postgres

        hidden = folder / "hidden"
        hidden.mkdir(mode=0o700)
        package = postgres.postgres_package()
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                shutil.copytree(part, hidden / part.name, symlinks=True)
        monkeypatch.setattr(postgres, "postgres_package", lambda: hidden / package.name)
        server = make_postgres(elsewhere=[folder / "elsewhere"])
        server.start()
        assert folder / "elsewhere" in Path(postmaster(server).exe()).parents
        write(server, "kept")
        assert any("Copying" in text for text in reports)


def test_stop_is_orderly_with_open_sessions(make_postgres):
    server = make_postgres()
    server.start()
    session = server.connect()
    session.execute("CREATE TABLE t (n int)")
    server.stop()
    assert "received fast shutdown request" in server.log_file.read_text()
    assert "database system is shut down" in server.log_file.read_text()
    session.close()


def test_a_stopped_postmaster_is_not_waited_for_for_ever(make_postgres):
    server = make_postgres()
    server.start()
    postmaster(server).send_signal(signal.SIGTERM)
    assert wait_gone(server_processes(server), 10) == []
    assert server.is_running() is False
    assert server.start() is True


def server_processes(server: Postgres) -> list[psutil.Process]:
    found = []
    for pid in server.pids():
        # It may have ended between being listed and being looked at.
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found
