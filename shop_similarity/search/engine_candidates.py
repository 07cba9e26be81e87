"""Candidates that an engine beside Postgres names: their keys go into the one statement of the search as an array."""

from __future__ import annotations

import math

import numpy as np

from ..embedding import engines
from ..embedding.engines import asking
from ..embedding.engines.copies import received, sent
from ..models import EMBEDDING_DIM, ModelVersion
from .queries import Query
from .sql import Sql

# Beside what a filter is estimated to leave out, so many more are asked for: estimates are rough, and photos of the
# product itself and of hidden ones are among the nearest.
_SPARE = 1.2
_LEFT_OUT = 24
_WIDER = 3


class Named:
    """What the engine names for one query, wider each time.

    Args:
        version: the model version whose embeddings are searched.
        query: the vectors to compare with.
        share: of the version's photos, those that may be found, 0 to 1, about.
    """

    def __init__(self, version: ModelVersion, query: Query, share: float) -> None:
        self._version = version
        self._share = max(share, 1e-6)
        self._most = engines.get_engine().most
        self._count = 0
        self._ids = np.zeros((0, 0), np.int64)
        self._has_more = True
        self._probes, self.first = _probes(query)

    def ask(self, candidates: int, *, wider: bool = False) -> None:
        """Have so many of each vector named that ``candidates`` are left of them behind the filter.

        Args:
            wider: whether fewer were left the last time, so that more are asked for than then.

        Raises:
            EngineDown: the engine does not answer, or has no complete copy.
        """
        wanted = math.ceil(_SPARE * candidates / self._share) + _LEFT_OUT
        count = min(max(wanted, _WIDER * self._count if wider else 0, self._count), self._most)
        if count == self._count or not self._has_more:
            return
        named = asking.nearest(self._version.pk, self._probes, count) if len(self._probes) else []
        self._has_more = any(len(keys) >= count for keys in named)
        self._count = count
        self._ids = np.zeros((len(named), count), np.int64)
        for row, keys in zip(self._ids, named, strict=True):
            row[: len(keys)] = keys

    @property
    def can_widen(self) -> bool:
        """Whether it would name more if it were asked for more."""
        return self._has_more and self._count < self._most

    def keys_of(self, number: str) -> Sql:
        """The array of the keys named for the vector whose number in the statement is the value of an expression."""
        place = f"({number} - {self.first})"
        return Sql(
            f"(%s::bigint[])[{place} * {self._count} + 1 : ({place} + 1) * {self._count}]",
            (self._ids.ravel().tolist(),),
        )


def _probes(query: Query) -> tuple[np.ndarray, int]:
    """What the engine is asked with, ``(q, ...)``, and the number that the first of them has in the statement."""
    engine = engines.get_engine()
    mean = ""
    if query.several:
        mean = (
            f"UNION ALL SELECT 0, avg(vector)::halfvec({EMBEDDING_DIM}), "
            f"binary_quantize(avg(vector))::bit({EMBEDDING_DIM}) FROM query HAVING count(*) > 0 "
        )
    rows = Sql.of(
        "WITH query AS MATERIALIZED (SELECT row_number() OVER ({order}) AS n, vector, code FROM ({query}) asked) "
        f"SELECT n, {sent(engine)} AS sent FROM (SELECT n, vector, code FROM query {mean}) probes ORDER BY n",
        order=ORDER,
        query=query.sql,
    ).rows()
    probes = [received(engine, row.sent) for row in rows]
    return np.stack(probes) if probes else np.zeros((0, 0)), rows[0].n if rows else 1


ORDER = Sql("ORDER BY part, code")
"""By which a query's vectors are numbered, in the statement that asks for them and in that of the search alike."""
