"""The roles of the container's entry script, run without a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import connection

from catalog.services.ports import free_port
from tests.shop_similarity.factories import make_version
from tests.support.waiting import PATIENCE

ENTRY = Path(settings.BASE_DIR) / "deploy" / "entrypoint.sh"


@pytest.fixture
def environment(servers, tmp_path, transactional_db) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATABASE_URL": servers.url_of(connection.settings_dict["NAME"]),
        "REDIS_URL": servers.broker_url,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TMPDIR": str(tmp_path),
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([ENTRY, *arguments], env=environment, capture_output=True, text=True, timeout=120)


def test_a_role_that_there_is_not_and_a_gpu_that_there_is_not(environment):
    ended = run(environment, "nothing")
    assert ended.returncode == 64
    assert "There is no role 'nothing'. Roles: web, worker, worker-gpu, migrate, health, manage." in ended.stderr
    ended = run(environment | {"GPU_DEVICES": "/dev/no-gpu*"}, "worker-gpu")
    assert ended.returncode == 78
    assert "has no GPU. Give it one" in ended.stderr


@pytest.mark.slow
@pytest.mark.long
def test_migrate_health_and_manage(environment):
    ended = run(environment, "migrate")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "No migrations to apply" in ended.stdout and "System check identified" in ended.stdout + ended.stderr
    make_version()
    ended = run(environment, "health", "database")
    assert (ended.returncode, ended.stdout.split()) == (0, ["ok", "database", "Pages", "search", "with", "drawn."])
    ended = run(environment, "health", "--this-host")
    assert ended.returncode == 1
    assert "FAILING" in ended.stdout
    assert run(environment, "manage", "similarity_status").returncode == 0


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("role", ["web", "worker"])
def test_a_server_takes_the_scripts_place_and_ends_by_its_signal(role, environment, tmp_path):
    make_version()
    port = free_port(None)
    log = tmp_path / "log"
    environment |= {"BIND": f"127.0.0.1:{port}", "SHOP_METRICS": "1", "SHOP_ALLOWED_HOSTS": "localhost,127.0.0.1"}
    stale = tmp_path / "prometheus" / "counter_1.db"
    stale.parent.mkdir()
    stale.write_bytes(b"of a container that is gone")
    with log.open("wb") as output:
        process = subprocess.Popen([ENTRY, role], env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _is_up(role, port, log):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3_000:]
            time.sleep(0.2)
        assert ("gunicorn" if role == "web" else "celery") in " ".join(psutil.Process(process.pid).cmdline())
        assert stale.exists() == (role == "worker")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            process.kill()


def _is_up(role: str, port: int, log: Path) -> bool:
    if role == "worker":
        return " ready." in log.read_text()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/similarity/health/database/", timeout=5) as answer:
            return answer.read() == b'{"status": "ok"}'
    except OSError:
        return False
