"""A worker tells what it counts on a port of its own, where it was given one."""

from __future__ import annotations

import json
import socket
import time
import urllib.request

import pytest

from catalog.services.ports import free_port
from shop_similarity.models import Embedding
from shop_similarity.workers import exporter
from tests.shop_similarity.factories import add_photo, make_product
from tests.support.waiting import wait_until
from tests.workers.test_worker_process import _jpeg

pytest.importorskip("prometheus_client")


def test_it_is_off_by_default(monkeypatch):
    import prometheus_client

    monkeypatch.setattr(prometheus_client, "start_http_server", lambda *args: pytest.fail("no port was named"))
    exporter.start()


def test_a_port_that_is_taken_costs_no_worker(settings, caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "METRICS": True, "WORKER_METRICS_PORT": port}
        exporter.start()
    assert f"tells no metrics on 127.0.0.1:{port}" in caplog.text


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_real_worker_counts_its_photos(pool, tiny_version, celery_worker_process, tmp_path):
    tiny_version()
    for number in range(5):
        add_photo(make_product(), _jpeg(number), f"{number}.jpg")
    port = free_port(None)
    similarity = {"METRICS": True, "WORKER_METRICS_PORT": port, "POLL_SECONDS": 0.2, "SWEEP_SECONDS": 0}
    environment = {"SHOP_TEST_SIMILARITY": json.dumps(similarity)}
    if pool == "processes":
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    worker = celery_worker_process("--pool", pool, env=environment)
    wait_until(lambda: Embedding.objects.count() == 5, lambda: worker.log)
    time.sleep(0.5)
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    assert 'shop_similarity_photos_total{outcome="embedded"} 5.0' in text
    assert "process_resident_memory_bytes" in text
