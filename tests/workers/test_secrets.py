"""A worker says and shows no password: neither in its log, nor in the list of processes."""

from __future__ import annotations

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

SECRET = "hush"


def test_passwords_of_servers_that_are_away(celery_worker_process):
    away = {
        "REDIS_URL": f"redis://:{SECRET}-broker@127.0.0.1:9/0",
        "DATABASE_URL": f"postgresql://nobody:{SECRET}-database@127.0.0.1:9/none",
    }
    worker = celery_worker_process(env=away, wait=False)
    worker.wait_for("Cannot connect", 120)
    assert "transport:" in worker.log, "the banner names the broker"
    assert SECRET not in worker.log
    assert SECRET not in " ".join(psutil.Process(worker.pid).cmdline())


def test_passwords_of_servers_that_answer(celery_worker_process, servers):
    worker = celery_worker_process()
    secrets = [server.password for server in (servers.postgres, servers.valkey) if server is not None]
    if not secrets:
        pytest.skip("both servers are the developer's own")
    for secret in secrets:
        assert secret not in worker.log
        assert secret not in " ".join(psutil.Process(worker.pid).cmdline())
