"""What a process does with a Milvus that takes connections and says nothing, or breaks off: no server is needed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from shop_similarity.embedding.engines import Copy, EngineDown
from shop_similarity.embedding.engines.with_milvus import Milvus

pytest.importorskip("pymilvus")

COPY = Copy(1, "none")
QUERY = np.zeros((1, 512), np.uint8)


@pytest.fixture
def silent() -> Iterator[Milvus]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Milvus({"uri": f"http://127.0.0.1:{server.getsockname()[1]}", "timeout": 1})


def test_many_pages_wait_for_a_silent_server_together_and_not_one_after_the_other(silent):
    with pytest.raises(EngineDown):
        silent.nearest(COPY, QUERY, 1)
    waited: list[float] = []

    def ask() -> None:
        began = time.monotonic()
        with pytest.raises(EngineDown, match="does not answer"):
            silent.nearest(COPY, QUERY, 1)
        waited.append(time.monotonic() - began)

    pages = [threading.Thread(target=ask) for _ in range(12)]
    for page in pages:
        page.start()
    for page in pages:
        page.join()
    # One after the other the last one would wait for twelve seconds.
    assert len(waited) == 12 and max(waited) < 6, waited


def test_connections_that_failed_are_closed_before_another_is_made(silent):
    closed = []

    class Broken:
        def has_collection(self, *_: object, **__: object) -> None:
            raise RuntimeError("reset by peer")

        def close(self) -> None:
            closed.append(self)

    for _ in range(3):
        silent._client = Broken()
        with pytest.raises(EngineDown, match="reset by peer"):
            silent.state(COPY)
        assert silent._client is None
    assert not closed, "others may be asking by them"
    with pytest.raises(EngineDown, match="does not answer"):
        silent.state(COPY)
    assert len(closed) == 3


def test_secrets_of_the_engine_are_in_no_error_report(settings):
    from shop_similarity.conf import get_settings

    options = {"uri": "http://milvus:19530", "token": "hush-token"}
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ENGINE": "milvus", "ENGINE_OPTIONS": options}
    assert "hush" not in repr(get_settings())
