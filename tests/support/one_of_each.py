"""``pytest -p tests.support.one_of_each``: of each test that uses the database one set of parameters, and nothing else;
with ``--every N`` each Nth of those.

For a second run with other settings, after one in which every test passed with all of its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


def _uses_database(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("django_db") is not None or not {"db", "transactional_db"}.isdisjoint(fixtures)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every", type=int, default=1, metavar="N", help="each Nth of the tests that would be run")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    # Before another plugin marks them all.
    using = {item.nodeid for item in items if _uses_database(item)}
    yield
    chosen = {item.nodeid.partition("[")[0]: item.nodeid for item in reversed(items) if item.nodeid in using}
    kept = set(sorted(chosen.values())[:: config.getoption("--every")])
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]
