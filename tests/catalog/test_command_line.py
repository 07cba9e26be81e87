"""manage.py and make from a user's shell."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo_process import OF_THE_TESTS, PROJECT, end_all, left_behind


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A user's environment, with a data folder of the test's own."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("SHOP_") and n not in OF_THE_TESTS}
    yield kept | {"SHOP_DATA": str(tmp_path / "data")}
    end_all(tmp_path / "data")


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("command", [["migrate"], ["runserver", "0"], ["similarity_status"]])
def test_a_command_without_the_servers_ends_with_one_sentence(environment, command):
    done = manage(environment, *command)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("The shop's own Postgres is not running. Start it with")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_another_database_error_is_not_explained_away(environment):
    done = manage(environment | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}, "migrate")
    assert done.returncode == 1
    assert "OperationalError" in done.stderr


@pytest.mark.long
def test_services_for_other_commands(environment, tmp_path):
    assert manage(environment, "services", "status").stdout.count("does not run") == 2
    done = manage(environment, "services", "start")
    assert done.stdout.count("was started on port") == 2, done.stderr
    assert manage(environment, "services", "start").stdout.count("runs already on port") == 2
    assert manage(environment, "services", "status").stdout.count("runs on port") == 2
    assert manage(environment, "migrate", "--verbosity", "0").returncode == 0
    assert "No migrations to apply" in manage(environment, "migrate").stdout
    assert manage(environment, "services", "stop").stdout.count("was stopped") == 2
    assert manage(environment, "services", "stop").stdout.count("was not running") == 2
    assert left_behind(tmp_path / "data") == []
    places = [path.read_text() for path in (tmp_path / "data").glob("*/address.json")]
    assert len(places) == 2
    assert manage(environment, "services", "delete").stdout.count("its data deleted") == 2
    assert not (tmp_path / "data" / "postgres").exists()
    assert not (tmp_path / "data" / "valkey").exists()


def test_services_leave_the_users_own_servers_alone(environment):
    own = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none", "REDIS_URL": "redis://127.0.0.1:9/0"}
    done = manage(environment | own, "services", "stop")
    assert done.returncode == 0
    assert done.stdout.count("a server of your own: left alone") == 2


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_explains_a_missing_python(tmp_path):
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    done = subprocess.run(["make", "demo", "PYTHON="], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "shop-similarity needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert not (tmp_path / ".venv").exists()
