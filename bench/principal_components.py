"""The usual way to make long vectors short: their strongest principal components."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PrincipalComponents:
    """Attributes:
    mean: (d,).
    directions: (d, k), orthonormal.
    """

    mean: np.ndarray
    directions: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, count: int = 512) -> PrincipalComponents:
        """Of (n, d) vectors; fewer than ``count`` where there are fewer vectors.

        By a random start and three power iterations (Halko, Martinsson and Tropp, SIAM Review 2011).
        """
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        count = min(count, len(vectors) - 1)
        found = np.random.default_rng(0).standard_normal((vectors.shape[1], count + 64)).astype(np.float32)
        for _ in range(3):
            found = np.linalg.qr(centred.T @ (centred @ found))[0]
        _values, turned = np.linalg.eigh(found.T @ (centred.T @ (centred @ found)))
        directions = found @ turned[:, ::-1][:, :count]
        return cls(mean.astype(np.float32), directions.astype(np.float32))

    def shorten(self, vectors: np.ndarray) -> np.ndarray:
        """(n, k) of (n, d), each of length 1."""
        short = (vectors - self.mean) @ self.directions
        return short / np.linalg.norm(short, axis=1, keepdims=True)


def fitted(blocks: Iterable[np.ndarray], sample: int = 4_096, count: int = 512) -> PrincipalComponents:
    """By the first ``sample`` vectors of some blocks."""
    taken: list[np.ndarray] = []
    for block in blocks:
        taken.append(block)
        if sum(map(len, taken)) >= sample:
            break
    return PrincipalComponents.of(np.concatenate(taken)[:sample], count)
