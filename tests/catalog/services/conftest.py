"""A folder of its own for every server that a test starts, and the reports that the server made."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catalog.services.postgres import Postgres
from catalog.services.processes import end, processes_in
from catalog.services.server import EmbeddedServer
from catalog.services.valkey import Valkey
from tests.support.servers import SMALL


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that other users may pass through, as pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="shop-service-"))
    path.chmod(0o711)
    yield path
    path.chmod(0o711)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def make_postgres(folder: Path, reports: list[str]) -> Iterator[Callable[..., Postgres]]:
    """Makes managers of the Postgres in the folder; whatever runs there is ended after the test."""
    yield from _maker(
        lambda fsync=False, **more: Postgres(folder, fsync=fsync, settings=SMALL, report=reports.append, **more)
    )


@pytest.fixture
def make_valkey(folder: Path, reports: list[str]) -> Iterator[Callable[..., Valkey]]:
    """Makes managers of the Valkey in the folder; whatever runs there is ended after the test."""
    yield from _maker(lambda **more: Valkey(folder, report=reports.append, **more))


def _maker(make: Callable[..., EmbeddedServer]) -> Iterator[Callable]:
    made: list[EmbeddedServer] = []

    def tracked(**more) -> EmbeddedServer:
        made.append(make(**more))
        return made[-1]

    yield tracked
    for server in made:
        if server.data.is_dir():
            end(processes_in(server.data, server.program), patience=10)
