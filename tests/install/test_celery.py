"""Workers of the plugin's own Celery app and of the shop's, each of which leaves the other's messages alone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

QUIET = {"POLL_SECONDS": 600, "SWEEP_SECONDS": 0, "SWEEP_FILES_SECONDS": 0}
# What a shop may say of its own tasks, all of which would lead the plugin's own app astray.
ORDERS = {
    "TASK_QUEUES": {"orders": {"exchange": "orders", "routing_key": "orders"}},
    "TASK_DEFAULT_QUEUE": "orders",
    "TASK_DEFAULT_EXCHANGE": "orders",
    "TASK_DEFAULT_ROUTING_KEY": "orders",
    "TASK_ROUTES": {"*": {"queue": "orders"}},
    "TASK_CREATE_MISSING_QUEUES": False,
    "TASK_ANNOTATIONS": {"*": {"rate_limit": "1/h"}},
    "TASK_TIME_LIMIT": 1,
    "IMPORTS": ["workers.tasks"],
    "BEAT_SCHEDULE": {"note": {"task": "workers.note", "schedule": 1, "args": ["by-the-clock"]}},
    "WORKER_POOL": "prefork",
    "WORKER_DIRECT": True,
}


def _queues(log: str) -> set[str]:
    """The queues of a worker's banner."""
    return set(re.findall(r"^.*> (\S+) +exchange=", log, re.MULTILINE))


def _has_tensorflow(process: psutil.Process) -> bool:
    return "libtensorflow" in Path(f"/proc/{process.pid}/maps").read_text()


def _add(shop, name: str, **options) -> None:
    """Add a product, and wait for its embedding."""
    before = shop.count("embedding")
    shop.manage("add_product", name, **options)
    shop.until(lambda: shop.count("embedding") == before + 1)


def test_the_plugins_app_takes_nothing_of_the_shops(shop):
    worker = shop.start_worker("-B", "-s", str(shop.data / "beat"), celery=ORDERS, **QUIET)
    assert _queues(worker.log) == {"shop_similarity"}
    assert "concurrency: 2 (thread)" in worker.log
    assert "workers.note" not in worker.log
    shop.manage("send_note", "order-7", celery=ORDERS)
    assert shop.messages("orders") == 1
    # The shop's limit of one task an hour is not for these.
    for name in ("lamp", "shade", "bulb"):
        _add(shop, name, celery=ORDERS, **QUIET)
    assert shop.messages("orders") == 1
    assert shop.messages("shop_similarity") == 0
    assert worker.stop() == 0
    shop.start_worker("-Q", "orders", "--pool", "solo", app="shop", celery=ORDERS, **QUIET)
    shop.until((shop.data / "order-7").exists)
    assert shop.messages("orders") == 0


def test_the_operator_may_name_another_queue(shop):
    worker = shop.start_worker("-Q", "shop_similarity,hurry", celery=ORDERS, **QUIET)
    assert _queues(worker.log) == {"shop_similarity", "hurry"}


def test_eager_shop_does_not_embed_in_the_web_process(shop):
    eager = {"TASK_ALWAYS_EAGER": True}
    before = shop.count("embedding")
    said = shop.manage("add_product", "desk", celery=eager)
    assert "tensorflow" not in said.lower()
    assert "Eager" not in said
    assert shop.count("embedding") == before
    assert shop.messages("shop_similarity") == 1
    shop.start_worker(celery=eager, **QUIET)
    shop.until(lambda: shop.count("embedding") == before + 1)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-Q", "celery,shop_similarity", "--concurrency", "2"), id="prefork"),
        pytest.param(("-Q", "celery,shop_similarity", "--pool", "threads"), id="threads", marks=pytest.mark.long),
    ],
)
def test_the_shops_app_embeds_sweeps_and_answers_shoppers(shop, arguments, request):
    kind = request.node.callspec.id
    quick = {"POLL_SECONDS": 0.2, "SWEEP_SECONDS": 1}
    # Common limits, which a drain must not be held to.
    limits = {"TASK_TIME_LIMIT": 2, "TASK_SOFT_TIME_LIMIT": 1}
    worker = shop.start_worker(*arguments, app="shop", celery=limits, **quick)
    assert _queues(worker.log) == {"celery", "shop_similarity"}
    assert f"({kind.rstrip('s')})" in worker.log
    shop.manage("send_note", kind)
    shop.until((shop.data / kind).exists)
    _add(shop, f"{kind}-saved")
    before = shop.count("embedding")
    shop.manage("add_product", f"{kind}-bulk", "--bulk")
    shop.until(lambda: shop.count("embedding") == before + 1)
    # Another thread may embed it before the sweep has written its line.
    shop.until(lambda: "The sweep queued 1 photos" in worker.log)
    assert f"s: {kind}-saved" in shop.manage("search_with_photo", f"{kind}-saved")
    if kind == "prefork":
        assert not _has_tensorflow(psutil.Process(worker.pid))
    assert "TimeLimit" not in worker.log
    assert worker.stop() == 0


def test_prefork_worker_rings_the_broker_that_it_listens_to(shop, monkeypatch):
    # The shop tells its app of the broker in code, where the web process's bell can't see it and rings in vain.
    elsewhere = {"BROKER_URL": "redis://127.0.0.1:9/0"}
    monkeypatch.setitem(shop.env, "HOST_BROKER", shop.env["REDIS_URL"])
    before = shop.count("embedding")
    shop.start_worker("-Q", "shop_similarity", app="shop", celery=elsewhere, POLL_SECONDS=0.2)
    shop.manage("add_product", "sofa", celery=elsewhere)
    shop.until(lambda: shop.count("embedding") == before + 1)


def test_a_worker_of_the_shop_without_the_queue_leaves_the_plugin_alone(shop):
    before = shop.count("embedding")
    worker = shop.start_worker(app="shop", without_tensorflow=True, POLL_SECONDS=0.1, SWEEP_SECONDS=1)
    assert _queues(worker.log) == {"celery"}
    shop.manage("add_product", "stool")
    shop.manage("add_product", "bench", "--bulk")
    shop.manage("send_note", "alone")
    shop.until((shop.data / "alone").exists)
    assert shop.messages("shop_similarity") == 1
    assert "sweep queued" not in worker.log
    assert worker.stop() == 0
    assert shop.count("embedding") == before
    shop.start_worker(POLL_SECONDS=0.1, SWEEP_SECONDS=1)
    shop.until(lambda: shop.count("embedding") == before + 2)


def test_a_worker_of_the_shop_with_the_queue_and_without_tensorflow_refuses_to_start(shop):
    worker = shop.start_worker("-Q", "celery,shop_similarity", app="shop", wait=False, without_tensorflow=True)
    try:
        assert worker.process.wait(60) == 1
    except subprocess.TimeoutExpired:
        pytest.fail(worker.log)
    assert "needs tensorflow, which is not installed here" in worker.log
    assert 'leave the queue "shop_similarity" to other workers' in worker.log
    assert "Traceback" not in worker.log
