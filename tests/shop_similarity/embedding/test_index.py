"""What a build of an index asks of the database server."""

from __future__ import annotations

import logging
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection

from shop_similarity import database
from shop_similarity.embedding import index
from shop_similarity.embedding.index import build_index, build_plan, drop_index, graph_bytes, index_state
from shop_similarity.models import Embedding
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db(transaction=True)

PHOTOS = 1_300


@pytest.fixture
def little_memory():
    """As on a server that nobody has tuned, in small: 1 MB holds the graph of some 850 photos."""
    options = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = options | {"options": "-c maintenance_work_mem=1MB"}
    connection.close()
    yield
    connection.close()
    connection.settings_dict["OPTIONS"] = options


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """What the server says to the connection that builds."""
    notices: list[str] = []
    unlimited = database.unlimited_cursor

    @contextmanager
    def heard(wanted=None):
        with unlimited(wanted) as cursor:
            cursor.connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            yield cursor

    monkeypatch.setattr(database, "unlimited_cursor", heard)
    return notices


def _version(photos: int) -> int:
    version = make_version()
    store_vectors(version, make_photos_without_files([make_product()], photos), random_vectors(photos))
    return version.pk


def test_a_build_asks_for_what_its_graph_needs(settings, little_memory, told, caplog):
    version = _version(PHOTOS)
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "INDEX_MEMORY": 2**20}
    assert not build_plan(version).fits
    assert build_index(version)
    (notice,) = told
    # Where pgvector ran out of memory says what a photo takes.
    held = int(notice.split()[-2])
    assert graph_bytes(held) == pytest.approx(2**20, rel=0.02)
    assert "INDEX_MEMORY" in caplog.text
    drop_index(version)
    told.clear()
    caplog.clear()
    del settings.SHOP_SIMILARITY["INDEX_MEMORY"]
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY}
    with caplog.at_level(logging.INFO, logger="shop_similarity"):
        assert build_index(version)
    assert told == []
    assert f"{PHOTOS} photos, a graph of 2 MiB" in caplog.text and "INDEX_MEMORY" not in caplog.text
    with database.cursor() as cursor:
        cursor.execute("SHOW maintenance_work_mem")
        assert cursor.fetchone() == ("1MB",)


def test_a_server_without_shared_memory_builds_in_one_process(monkeypatch, caplog):
    """Docker gives a container 64 MB of /dev/shm, and a graph that several processes build is in it."""
    version = _version(3)
    build, tried = index._build, []

    class Full(Exception):
        sqlstate = "53100"

    def refused(version_id, wanted, *, drop):
        tried.append((int(wanted["max_parallel_maintenance_workers"]), drop))
        if tried[-1][0]:
            raise OperationalError("could not resize shared memory segment") from Full()
        build(version_id, wanted, drop=drop)

    monkeypatch.setattr(index, "_build", refused)
    assert build_index(version)
    assert tried == [(build_plan(version).workers, False), (0, True)]
    assert index_state(version).state == "ready" and "shared memory" in caplog.text


def test_other_troubles_are_raised(monkeypatch):
    version = _version(1)
    monkeypatch.setattr(index, "_build", lambda *args, **kwargs: (_ for _ in ()).throw(OperationalError("cancelled")))
    with pytest.raises(OperationalError, match="cancelled"):
        build_index(version)
    assert Embedding.objects.count() == 1


def test_a_million_photos_need_memory_that_no_server_gives_by_default():
    assert graph_bytes(10**6) == pytest.approx(1.23e9, rel=0.01)
    plan = index.BuildPlan(10**6, graph_bytes(10**6), 64 * 2**20, 2)
    larger = index.BuildPlan(10**6, graph_bytes(10**6), 2 * 2**30, 2)
    assert plan.seconds > 5 * larger.seconds and not plan.fits and larger.fits
    assert "1000000 photos, a graph of 1173 MiB" in str(larger)
