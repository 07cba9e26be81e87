"""What an engine does for searches. Two ship, pgvector and Milvus; the setting ``ENGINE`` chooses.

An engine knows photos by the keys of their embeddings and nothing else of them. It is told of every change after
Postgres, may be told of one twice, and may be behind or empty at any time: what it names is looked up in Postgres,
filtered and compared exactly there, and what it names although it is gone is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

Holds = Literal["codes", "vectors"]
"""``"codes"``: signs, ``(n, 512)`` ``uint8``, packed with the first dimension in the highest bit, compared by the
number of bits that differ. ``"vectors"``: ``(n, 4096)`` ``float16`` of length 1, compared by cosine."""


@dataclass(frozen=True)
class Copy:
    """What an engine holds of one version; several stand side by side.

    Attributes:
        version_id: key of the version.
        name: by which the engine knows it: letters, digits and underscores, unique in the engine for ever.
    """

    version_id: int
    name: str


@dataclass(frozen=True)
class EngineState:
    """What there is of a copy.

    Attributes:
        exists: whether the engine has it at all, be it empty.
        photos: how many it holds, or about so many.
        bytes: what it takes, 0 where the engine does not tell.
    """

    exists: bool
    photos: int = 0
    bytes: int = 0


class Engine(Protocol):
    """Names candidates. It is made once in a process with ``ENGINE_OPTIONS`` and used by all its threads.

    All methods but :meth:`check` raise :class:`EngineDown` where the engine does not answer, within seconds.

    Attributes:
        is_beside: whether it is beside Postgres and has to be fed. False for pgvector alone, whose copy is the table
            itself; searches ask its index within their one statement, and :meth:`nearest` only where they are told to.
        holds: what it is fed with and asked with.
        most: how many photos it can name for one query at most.
    """

    is_beside: bool
    holds: Holds
    most: int

    def __init__(self, options: dict[str, Any]) -> None: ...

    def check(self) -> None:
        """Do nothing where options and packages are right. It is asked by ``manage.py check`` and connects to nothing.

        Raises:
            EngineError: they are not; the sentence says what to do.
        """
        ...

    def state(self, copy: Copy) -> EngineState:
        """What there is of a copy."""
        ...

    def build(self, copy: Copy, photos: int) -> None:
        """Make what a copy lacks of being searched: itself, its index, what a restart has left on disk. Called before
        the first photos, after the last of many and now and then; where all is there already it does nothing.

        Args:
            photos: how many it will hold, about; 0 where no more than a few have come since the last time.
        """
        ...

    def upsert(self, copy: Copy, ids: Sequence[int], rows: np.ndarray) -> None:
        """Add photos, or replace what it has of them; up to 1,000 at a time.

        Args:
            ids: keys of embeddings, each once.
            rows: of the kind that :attr:`holds` says, in their order.
        """
        ...

    def delete(self, copy: Copy, ids: Sequence[int]) -> None:
        """Forget photos, up to 1,000 at a time, whether it has them or not."""
        ...

    def nearest(self, copy: Copy, queries: np.ndarray, count: int) -> list[list[int]]:
        """Keys of the photos nearest to each query, nearest first.

        Filters are Postgres' affair: where only a share of all photos may be found, ``count`` is what is needed behind
        the filter divided by that share, so that enough pass it.

        Args:
            queries: ``(q, ...)`` of the kind that :attr:`holds` says.
            count: of each query; fewer come back only where there are no more. At most :attr:`most`.
        """
        ...

    def drop(self, copy: Copy) -> None:
        """Remove a copy, if it is there."""
        ...
