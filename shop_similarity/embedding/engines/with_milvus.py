"""Milvus, standalone or a cluster: it holds the sign codes of each version in a collection of its own.

Codes and not vectors: they are 32 times smaller than the float32 that Milvus would hold in memory, written 45 times as
fast, and with the exact comparison in Postgres they find as much (``docs/engines.md``). ``pymilvus`` is imported when
Milvus is first asked.
"""

from __future__ import annotations

import importlib.util
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from django.views.decorators.debug import sensitive_variables

from ...engine_errors import EngineDown, EngineError
from ...models import EMBEDDING_DIM
from .interface import Copy, EngineState

_KNOWN = {"uri", "token", "user", "password", "db_name", "timeout", "prefix", "index", "consistency", "client"}
_INDEXES = ("BIN_IVF_FLAT", "BIN_FLAT")
_DEFAULT_URI = "http://localhost:19530"
# A page waits no longer; whatever builds or writes may take minutes.
_TIMEOUT_SECONDS = 2.0
_LONG_SECONDS = 600.0
# Lists that are looked through at least, of those that the index divides the codes into.
_LISTS = 64
# Of each list's photos fewer than a third are among the nearest.
_SPARE = 4
_MOST_LISTS = 65_536
_KEPT_SECONDS = 60.0


class Milvus:
    """A server of Milvus 2.3 or newer.

    Options: ``uri``, ``token`` (or ``user`` and ``password``), ``db_name``, ``timeout`` (seconds that a search waits,
    2), ``index`` (``"BIN_IVF_FLAT"``, or ``"BIN_FLAT"``, which compares all codes), ``consistency`` (``"Bounded"``) and
    ``client``, more arguments of ``pymilvus.MilvusClient``, for certificates.
    """

    is_beside = True
    holds = "codes"
    # Milvus' own limit of the results of a search.
    most = 16_384

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._uri = str(options.get("uri", _DEFAULT_URI))
        self._timeout = float(options.get("timeout", _TIMEOUT_SECONDS))
        self._index = options.get("index", _INDEXES[0])
        self._consistency = options.get("consistency", "Bounded")
        self._lock = threading.Lock()
        self._client: Any = None
        # When it could not be connected to the last time, and why.
        self._refused_at, self._refusal = 0.0, ""
        self._left: list[Any] = []
        # Lists of a collection's index, and photos in it; how long that is believed.
        self._sizes: dict[str, tuple[float, int, int]] = {}

    def check(self) -> None:
        if importlib.util.find_spec("pymilvus") is None:
            raise EngineError(
                "ENGINE is milvus, and pymilvus is not installed: install the plugin with the extra `milvus`."
            )
        if unknown := set(self._options) - _KNOWN:
            raise EngineError(
                f"ENGINE_OPTIONS has {', '.join(sorted(unknown))}; known are {', '.join(sorted(_KNOWN))}."
            )
        if self._index not in _INDEXES:
            raise EngineError(f"ENGINE_OPTIONS['index'] is {self._index!r}: write one of {', '.join(_INDEXES)}.")

    def state(self, copy: Copy) -> EngineState:
        if not self._ask("has_collection", copy.name):
            return EngineState(False)
        return EngineState(True, int(self._ask("get_collection_stats", copy.name).get("row_count", 0)))

    def build(self, copy: Copy, photos: int) -> None:
        if not self._ask("has_collection", copy.name):
            self._create(copy, photos)
        elif photos:
            # What is not flushed is not in the index, and is compared one by one.
            self._ask("flush", copy.name, timeout=_LONG_SECONDS)
        self._ask("load_collection", copy.name, timeout=_LONG_SECONDS)

    def _create(self, copy: Copy, photos: int) -> None:
        from pymilvus import DataType, MilvusClient
        from pymilvus.milvus_client.index import IndexParams

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("code", DataType.BINARY_VECTOR, dim=EMBEDDING_DIM)
        self._ask("create_collection", copy.name, schema=schema, consistency_level=self._consistency)
        lists = {"nlist": _lists(photos)} if self._index == "BIN_IVF_FLAT" else {}
        index = IndexParams()
        index.add_index("code", index_type=self._index, metric_type="HAMMING", params=lists)
        self._ask("create_index", copy.name, index)

    def upsert(self, copy: Copy, ids: Sequence[int], rows: np.ndarray) -> None:
        data = [{"id": int(key), "code": row.tobytes()} for key, row in zip(ids, rows, strict=True)]
        self._ask("upsert", copy.name, data, timeout=_LONG_SECONDS)

    def delete(self, copy: Copy, ids: Sequence[int]) -> None:
        self._ask("delete", copy.name, ids=[int(key) for key in ids], timeout=_LONG_SECONDS)

    def nearest(self, copy: Copy, queries: np.ndarray, count: int) -> list[list[int]]:
        lists, photos = self._size(copy)
        wide = min(max(_LISTS, math.ceil(_SPARE * count * lists / max(photos, 1))), lists)
        found = self._ask(
            "search",
            copy.name,
            [query.tobytes() for query in queries],
            limit=count,
            anns_field="code",
            search_params={"metric_type": "HAMMING", "params": {"nprobe": wide} if lists > 1 else {}},
            timeout=self._timeout,
        )
        return [[hit["id"] for hit in hits] for hits in found]

    def drop(self, copy: Copy) -> None:
        self._sizes.pop(copy.name, None)
        self._ask("drop_collection", copy.name, timeout=_LONG_SECONDS)

    def _size(self, copy: Copy) -> tuple[int, int]:
        kept = self._sizes.get(copy.name)
        if kept is None or kept[0] < time.monotonic():
            index = self._ask("describe_index", copy.name, "code") or {}
            photos = int(self._ask("get_collection_stats", copy.name).get("row_count", 0))
            kept = (time.monotonic() + _KEPT_SECONDS, int(index.get("nlist", 1)), photos)
            self._sizes[copy.name] = kept
        return kept[1:]

    def _ask(self, method: str, *arguments: Any, timeout: float | None = None, **named: Any) -> Any:
        """Call a method of the client.

        Raises:
            EngineDown: whatever it raises.
        """
        client = None
        try:
            client = self._connected()
            return getattr(client, method)(*arguments, timeout=timeout or self._timeout, **named)
        except ImportError as error:
            self.check()
            raise EngineDown(f"pymilvus can't be imported: {error}.") from error
        except Exception as error:
            # The next one connects anew: a server that was started again knows nothing of this connection.
            self._leave(client)
            # The address may hold a password.
            place = urlsplit(self._uri)
            where = (place.hostname and f"{place.hostname}:{place.port or 19530}") or "its address"
            said = " ".join(str(error).split())[:200]
            raise EngineDown(
                f"Milvus at {where} does not answer as it should ({type(error).__name__}: {said})."
            ) from error

    def _connected(self) -> Any:
        came_at = time.monotonic()
        with self._lock:
            if self._client is None:
                if came_at < self._refused_at:
                    # Whoever waited meanwhile has waited as long as a page can.
                    raise ConnectionError(self._refusal)
                # pymilvus keeps what nobody closes. Not at once: what others asked it may still be answered.
                while self._left:
                    with suppress(Exception):
                        self._left.pop().close()
                try:
                    self._client = self._connection()
                except Exception as error:
                    self._refused_at, self._refusal = time.monotonic(), str(error)
                    raise
            return self._client

    @sensitive_variables()
    def _connection(self) -> Any:
        from pymilvus import MilvusClient

        names = ("token", "user", "password", "db_name")
        given = {name: self._options[name] for name in names if self._options.get(name)}
        return MilvusClient(
            uri=self._uri, timeout=self._timeout, dedicated=True, **given, **self._options.get("client", {})
        )

    def _leave(self, client: Any) -> None:
        with self._lock:
            if client is not None and self._client is client:
                self._client = None
                self._left.append(client)


def _lists(photos: int) -> int:
    """As many lists as Milvus advises: four times the square root of the number of photos."""
    return min(max(4 * math.isqrt(max(photos, 0)), 128), _MOST_LISTS)
