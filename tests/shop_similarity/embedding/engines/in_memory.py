"""An engine in forty lines, named by its dotted path: proof that the interface is enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shop_similarity.embedding.engines import Copy, EngineDown, EngineState

# As a server would keep it, whatever process or instance asks.
COPIES: dict[str, dict[int, np.ndarray]] = {}
IS_DOWN = False


class InMemory:
    """Compares all vectors that it holds."""

    is_beside = True
    holds = "vectors"
    most = 1_000

    def __init__(self, options: dict[str, Any]) -> None:
        self.asked = 0

    def _of(self, copy: Copy) -> dict[int, np.ndarray]:
        if IS_DOWN or copy.name not in COPIES:
            raise EngineDown("The engine of the tests is down.")
        return COPIES[copy.name]

    def check(self) -> None: ...

    def state(self, copy: Copy) -> EngineState:
        if IS_DOWN:
            raise EngineDown("The engine of the tests is down.")
        return EngineState(copy.name in COPIES, len(COPIES.get(copy.name, {})))

    def build(self, copy: Copy, photos: int) -> None:
        COPIES.setdefault(copy.name, {})

    def upsert(self, copy: Copy, ids: Sequence[int], rows: np.ndarray) -> None:
        self._of(copy).update(zip(ids, rows, strict=True))

    def delete(self, copy: Copy, ids: Sequence[int]) -> None:
        for key in ids:
            self._of(copy).pop(key, None)

    def nearest(self, copy: Copy, queries: np.ndarray, count: int) -> list[list[int]]:
        held = self._of(copy)
        keys, rows = np.array(list(held)), np.array(list(held.values()), np.float32)
        return [keys[np.argsort(-(rows @ query.astype(np.float32)))][:count].tolist() for query in queries]

    def drop(self, copy: Copy) -> None:
        self.state(copy)
        COPIES.pop(copy.name, None)
