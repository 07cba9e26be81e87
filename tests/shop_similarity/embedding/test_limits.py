"""A role whose statements may take, and wait for locks, for a moment only: made for pages, felt by workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection, connections

from shop_similarity import database
from shop_similarity.embedding import index
from shop_similarity.embedding.index import build_index, build_index_unless_it_failed, index_state
from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import Embedding, OutboxEntry
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db(transaction=True)

LIMIT = "400ms"
LONGER = 1.2


@pytest.fixture
def limited():
    """Every connection that is made from here on has the limits, as if the role had them."""
    options = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = options | {"options": f"-c statement_timeout={LIMIT} -c lock_timeout={LIMIT}"}
    connection.close()
    yield
    connection.close()
    connection.settings_dict["OPTIONS"] = options


@contextmanager
def _held(statement: str, seconds: float = LONGER) -> Iterator[None]:
    """Another transaction runs a statement and ends after so many seconds."""
    runs, end = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with database.atomic():
                with database.cursor() as cursor:
                    cursor.execute(statement)
                runs.set()
                end.wait(seconds)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert runs.wait(10)
    try:
        yield
    finally:
        end.set()
        thread.join()


def _version() -> int:
    version = make_version()
    photos = make_photos_without_files([make_product()], 3)
    store_vectors(version, photos, random_vectors(3))
    return version.pk


def test_limits_are_felt(limited):
    with _held(f"LOCK TABLE {Embedding._meta.db_table}"), pytest.raises(OperationalError, match="timeout"):
        Embedding.objects.exists()


def test_index_is_built_whatever_the_limits_of_the_role(limited):
    version = _version()
    with _held(f"UPDATE {Embedding._meta.db_table} SET file_mark = ''"):
        assert build_index(version)
    assert index_state(version).state == "ready"


def test_sweep_waits_longer_than_a_page_may(limited):
    make_version()
    make_photos_without_files([make_product()])
    with _held(f"LOCK TABLE {OutboxEntry._meta.db_table} IN SHARE MODE"):
        assert sweep(files=False).enqueued == 1


def test_index_that_could_not_be_built_is_left_alone_for_a_while(limited, monkeypatch, caplog):
    version = _version()
    # Through a pooler the limits stay those of the role.
    monkeypatch.setattr(database, "is_pooled", lambda alias=None: True)
    monkeypatch.setattr(index, "_failed", {})
    with _held(f"UPDATE {Embedding._meta.db_table} SET file_mark = ''"):
        assert build_index_unless_it_failed(version) is False
    assert "next try is in 5 minutes" in caplog.text
    assert index_state(version).state == "invalid"
    caplog.clear()
    assert build_index_unless_it_failed(version) is False
    assert (caplog.text, index_state(version).state) == ("", "invalid")
    failures, again = index._failed[version]
    index._failed[version] = failures, again - 301
    with _held(f"UPDATE {Embedding._meta.db_table} SET file_mark = ''"):
        assert build_index_unless_it_failed(version) is False
    assert "next try is in 10 minutes" in caplog.text
    index._failed[version] = failures, again - 301
    assert build_index_unless_it_failed(version) is True
    assert (index_state(version).state, index._failed) == ("ready", {})
