"""pgvector's index in Postgres: its copy is the table of embeddings itself, so nothing is fed to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import database
from ...engine_errors import EngineError
from ...models import EMBEDDING_DIM, Embedding
from ..index import build_index, drop_index, index_state
from .interface import Copy, EngineState


class Pgvector:
    """The HNSW index over a version's codes."""

    is_beside = False
    holds = "codes"
    # hnsw.ef_search.
    most = 1_000

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def check(self) -> None:
        if self._options:
            raise EngineError("ENGINE_OPTIONS is for engines beside Postgres, and ENGINE is pgvector: leave it out.")

    def state(self, copy: Copy) -> EngineState:
        index = index_state(copy.version_id)
        photos = Embedding.objects.filter(version=copy.version_id).count() if index.state == "ready" else 0
        return EngineState(index.state != "absent", photos, index.bytes)

    def build(self, copy: Copy, photos: int) -> None:
        build_index(copy.version_id)

    def upsert(self, copy: Copy, ids: Sequence[int], rows: np.ndarray) -> None:
        """Nothing: the row is in the index with the commit that wrote it."""

    def delete(self, copy: Copy, ids: Sequence[int]) -> None:
        """Nothing: an index names no row that is gone."""

    def nearest(self, copy: Copy, queries: np.ndarray, count: int) -> list[list[int]]:
        # The version is written out, for only a literal lets the planner see that the version's own index fits.
        statement = (
            f"SELECT id FROM {Embedding._meta.db_table} WHERE version_id = {int(copy.version_id)} "
            f"ORDER BY code <~> %s::bit({EMBEDDING_DIM}) LIMIT {int(count)}"
        )
        alias = database.read_alias()
        with database.atomic(alias), database.cursor(alias) as cursor:
            cursor.execute(
                "SELECT set_config('hnsw.ef_search', %s, true), "
                "set_config('hnsw.iterative_scan', 'relaxed_order', true)",
                [str(min(max(count, 40), self.most))],
            )
            found = []
            for query in queries:
                cursor.execute(statement, ["".join(f"{byte:08b}" for byte in query)])
                found.append([key for (key,) in cursor.fetchall()])
            return found

    def drop(self, copy: Copy) -> None:
        drop_index(copy.version_id)
