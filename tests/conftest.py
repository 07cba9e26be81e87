"""The servers, workers and browser that tests share: real ones, started when a test first asks for them."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from catalog.services.shop import own_broker_url, own_database_url
from tests.support.browser import find_browser, open_browser
from tests.support.celery_worker import CeleryWorker
from tests.support.flush import flush_what_is_filled
from tests.support.plans import random_page_cost, vacuumed  # noqa: F401
from tests.support.servers import TestServers, sweep_dead_runs
from tests.support.waiting import PATIENCE

RUN_FOLDER = Path(os.environ["SHOP_TEST_FOLDER"])

# What the longest files take on a slow machine, by which they are begun in time; tests that are `long` aside.
SECONDS = {
    "catalog/demo/test_whole.py": 110,
    "shop_similarity/storefront/test_widget_page.py": 110,
    "training/learning/test_loop.py": 100,
    "install/test_celery.py": 95,
    "catalog/services/test_postgres.py": 85,
    "workers/test_worker_process.py": 85,
    "training/commands/test_train_command.py": 75,
    "shop_similarity/api/test_schema.py": 65,
    "training/networks/test_architectures.py": 60,
    "training/versions/test_first_version.py": 55,
    "shop_similarity/visual_search/test_page.py": 55,
    "workers/test_whole_way.py": 55,
    "catalog/test_browser.py": 50,
    "shop_similarity/admin/test_browser.py": 45,
    "catalog/demo/test_ending.py": 40,
    "workers/test_drain.py": 40,
    "workers/test_jobs.py": 40,
    "workers/test_visual_queries.py": 35,
    "install/test_wheel.py": 30,
    "training/commands/test_evaluate_command.py": 30,
    "workers/test_commands.py": 30,
    "docs/test_snippets.py": 30,
    "training/networks/test_backbones.py": 30,
    "training/heads/test_calibration.py": 30,
    "training/versions/test_aspects.py": 25,
    "training/triplets/test_catalogue.py": 25,
    "training/triplets/test_building.py": 20,
    "training/report/test_report.py": 20,
}
# What the `long` tests of these files add.
LONG_SECONDS = {
    "bench/test_benchmarks.py": 230,
    "shop_similarity/contrib/wagtail/test_wagtail_shop.py": 560,
    "training/commands/test_train_command.py": 490,
    "install/test_oscar.py": 440,
    "test_hostile_requests.py": 300,
    "install/test_celery.py": 390,
    "catalog/demo/test_whole.py": 360,
    "test_two_databases.py": 350,
    "workers/test_worker_process.py": 340,
    "training/learning/test_loop.py": 310,
    "shop_similarity/embedding/engines/test_copies.py": 240,
    "catalog/demo/test_ending.py": 240,
    "shop_similarity/embedding/engines/test_conformance.py": 140,
    "shop_similarity/visual_search/test_votes.py": 140,
    "training/networks/test_encoders.py": 130,
}


def pytest_sessionstart(session: pytest.Session) -> None:
    # A shell ignores these for what it runs in the background, and children inherit that: the tests that press Ctrl-C
    # would press it in vain.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    sweep_dead_runs(RUN_FOLDER)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    # Imports make objects by the hundred thousand, TensorFlow's above all, which stay to the end. Each of the many
    # garbage collections that Keras asks for would walk all of them.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files go to the processes of pytest-xdist whole and in this order: a long one that began last would be waited for.
    seconds: dict[Path, float] = {}
    longs: dict[Path, float] = {}
    for item in items:
        file = item.nodeid.split("::")[0].removeprefix("tests/")
        seconds[item.path] = seconds.get(item.path, SECONDS.get(file, 0)) + 0.2
        if item.get_closest_marker("long"):
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(1200))
            longs[item.path] = LONG_SECONDS.get(file, longs.get(item.path, 0) + 10)
    items.sort(key=lambda item: -seconds[item.path] - longs.get(item.path, 0))


@pytest.fixture(scope="session")
def servers() -> Iterator[TestServers]:
    """Postgres and Valkey of this run: the developer's, where DATABASE_URL or REDIS_URL say so, else our own."""
    running = TestServers(RUN_FOLDER, own_database_url(), own_broker_url())
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def postgres_url(servers: TestServers) -> str:
    """Address of the Postgres that the test database is made in (not of the test database)."""
    return servers.database_url


@pytest.fixture(scope="session")
def redis_url(servers: TestServers) -> str:
    """Address of the broker, which the settings name too."""
    return servers.broker_url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: TestServers) -> None:
    """Tell Django where the servers are, before it makes the test database."""
    servers.tell_django()
    flush_what_is_filled()


@pytest.fixture
def valkey(servers: TestServers):
    """The broker's manager: a test may stop it; it runs again, at the same address, when the test is over."""
    if servers.valkey is None:
        pytest.skip("the broker is the developer's own (REDIS_URL): a test must not stop it")
    servers.valkey.start()
    yield servers.valkey
    servers.valkey.start()
    assert servers.valkey.url == servers.broker_url, "Valkey came back at another port"


@pytest.fixture
def postgres(transactional_db, servers: TestServers):
    """The database's manager: a test may stop it; it runs again, at the same address, when the test is over."""
    from django.db import connections

    if servers.postgres is None:
        pytest.skip("the database is the developer's own (DATABASE_URL): a test must not stop it")
    url = servers.postgres.url
    yield servers.postgres
    servers.postgres.start()
    # What is left of the connections that it ended.
    connections.close_all()
    assert servers.postgres.url == url, "Postgres came back at another port"


@pytest.fixture
def celery_worker_process(transactional_db, servers: TestServers) -> Iterator:
    """Starts real `celery -A shop_similarity.workers worker` processes against the test database and the test broker.

    celery_worker_process(*arguments, env={...}, wait=True) -> tests.support.celery_worker.CeleryWorker. All of them,
    with the children they forked, are gone when the test is over.
    """
    from django.db import connection

    servers.empty_broker()
    started: list[CeleryWorker] = []

    def start(*arguments: str, env: dict[str, str] | None = None, wait: bool = True, timeout: float = PATIENCE):
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": servers.url_of(connection.settings_dict["NAME"]),
            "REDIS_URL": servers.broker_url,
        }
        log = RUN_FOLDER / f"worker-{os.getpid()}-{len(list(RUN_FOLDER.glob('worker-*')))}.log"
        worker = CeleryWorker(settings.BASE_DIR, arguments, environment | (env or {}), log)
        started.append(worker)
        if wait:
            worker.wait_until_ready(timeout)
        return worker

    try:
        yield start
    finally:
        for worker in started:
            worker.reap()


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium (playwright's Browser), shared by a module's tests; REQUIRE_BROWSER=1 makes its lack fail."""
    path = find_browser()
    if path is None:
        reason = "no Chromium found: install the package chromium, or name one in CHROMIUM"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with open_browser(path) as browser:
        yield browser
