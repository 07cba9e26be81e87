"""Engines that name the candidates of a search: the index in Postgres, Milvus, or a class of the shop's own.

Postgres stays the truth: vectors, filters, exact comparison and rules. An engine beside it holds a copy of the codes
(or the vectors) and says which photos are near; ``docs/engines.md`` has the rest.
"""

from ...engine_errors import EngineDown, EngineError
from .choice import get_engine, is_beside
from .interface import Copy, Engine, EngineState, Holds

__all__ = [
    "Copy",
    "Engine",
    "EngineDown",
    "EngineError",
    "EngineState",
    "Holds",
    "get_engine",
    "is_beside",
]
