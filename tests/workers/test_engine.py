"""Workers feed the engine beside Postgres by the clock and after a drain."""

from __future__ import annotations

import pytest

from shop_similarity.embedding.engines import copies, get_engine
from shop_similarity.models import Embedding, EngineChange, EngineCopy
from shop_similarity.workers import clock
from shop_similarity.workers.jobs import stopping
from tests.shop_similarity.embedding.engines import in_memory
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

IN_MEMORY = "tests.shop_similarity.embedding.engines.in_memory.InMemory"


@pytest.fixture
def fed(transactional_db, settings, monkeypatch):
    monkeypatch.setattr(copies, "_next_look", 0.0)
    stopping.clear()
    yield lambda name: setattr(settings, "SHOP_SIMILARITY", {**settings.SHOP_SIMILARITY, "ENGINE": name})
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ENGINE": "pgvector"}
    copies.feed()
    in_memory.COPIES.clear()


def test_what_is_due_is_told_and_nothing_with_pgvector(fed, monkeypatch):
    job, is_due = next(pair for pair in clock._JOBS if pair[0].name == "engine")
    photos = make_photos_without_files([make_product(), make_product()])
    version = make_version()
    store_vectors(version, photos, random_vectors(2))
    assert not is_due()
    fed(IN_MEMORY)
    monkeypatch.setattr(copies, "_next_look", 0.0)
    assert is_due()
    job.do()
    row = EngineCopy.objects.get()
    assert row.filled_at and get_engine().state(copies.copy_of(row)).photos == 2
    # It looks once a minute, and at once where something has changed.
    assert not is_due()
    Embedding.objects.filter(image_id=photos[0].pk).delete()
    begun = []
    monkeypatch.setattr(clock.engine, "begin", lambda: begun.append(1))
    monkeypatch.setattr(clock.versions, "begin", lambda: None)
    clock.look_after()
    assert begun
    job.do()
    assert get_engine().state(copies.copy_of(row)).photos == 1 and not EngineChange.objects.exists()
