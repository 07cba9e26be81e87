"""Two questions in one vector: which products look alike, and which photos show this very product.

What answers the one well spoils the other: other colours of a style are the same product and no look-alikes. So an
embedding may hold three parts, each a linear map of the photo's features: one for look-alikes, one for the product
itself, and the colours. Each part has the same length in all embeddings, so the cosine of two that are stored is a
weighted mean of the parts' cosines, with the weights that look-alikes want. Whoever asks the other question weighs the
parts of *his* embedding otherwise: the product of both weights counts, and what is stored stays as it is, as do its
codes.

The three parts are turned into the embedding by an orthogonal map without weights: signs and the Walsh-Hadamard
transform, twice (Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform", SIAM J. Comput. 39, 2009). It keeps
every cosine and spreads each number over all coordinates, whose signs then make a good code to search by. It is its own
inverse but for the signs, so the parts can be read off any embedding without the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from shop_similarity.training.networks.lab import BINS

# Shares of look-alikes, the product itself and the colours in the similarity that a search by photo asks for.
SEARCH = (0.1, 0.7, 0.2)
HUES = prod(BINS)
_DIM = 4096


@dataclass(frozen=True)
class Questions:
    """Where the parts of an embedding are, and what they weigh.

    Attributes:
        length: of the embedding, a power of two.
        stored: squared lengths of the three parts, which add up to 1.
        search: shares in the similarity that a search by photo asks for.
    """

    length: int
    stored: tuple[float, float, float]
    search: tuple[float, float, float]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Questions | None:
        """Those of a version's configuration; None where its embeddings answer one question."""
        if not (instance := config.get("instance", 0.0)):
            return None
        colour = config["colour"]
        return cls(
            config.get("embedding_dim", _DIM),
            (1 - instance - colour, instance, colour),
            tuple(config.get("search", SEARCH)),
        )

    @property
    def part_length(self) -> int:
        """Numbers that there are for each of the first two parts."""
        return (self.length - HUES) // 2

    @property
    def parts(self) -> tuple[slice, slice, slice]:
        """Places of the three parts in a row of parts."""
        one, two = self.part_length, 2 * self.part_length
        return slice(0, one), slice(one, two), slice(two, two + HUES)

    def lift(self, rows: np.ndarray) -> np.ndarray:
        """``(n, length)`` of rows of parts ``(n, k)``, k at most ``length``."""
        first, second = self.signs
        padded = np.pad(rows, ((0, 0), (0, self.length - rows.shape[1])))
        return self._transformed(self._transformed(padded * first) * second)

    def in_parts(self, vectors: np.ndarray) -> np.ndarray:
        """What :meth:`lift` made ``(n, length)`` of: ``(n, length)``, the first numbers being the parts."""
        first, second = self.signs
        return self._transformed(self._transformed(vectors) * second) * first

    def divided(self, rows: np.ndarray, lengths_of: np.ndarray) -> np.ndarray:
        """Rows ``(n, length)`` with each part divided by the length of that part in others, times its own in a vector.

        Of the rows themselves it is the embedding.
        """
        rows, others = self.in_parts(rows), self.in_parts(lengths_of)
        for part, stored in zip(self.parts, self.stored, strict=True):
            lengths = np.linalg.norm(others[:, part], axis=1, keepdims=True)
            rows[:, part] *= np.sqrt(stored) / np.maximum(lengths, 1e-12)
        return self.lift(rows)

    def asked_by_photo(self, vectors: np.ndarray) -> np.ndarray:
        """Embeddings to search by a photo with.

        Args:
            vectors: ``(n, length)`` or ``(length,)``, as they are stored.

        Returns:
            As many, all of one length, so that the dot product with an embedding that is stored is the mean of the
            parts' cosines with the shares of ``search``: 1 with the photo's own, whose cosine is less.
        """
        rows = self.in_parts(np.atleast_2d(vectors))
        for part, stored, share in zip(self.parts, self.stored, self.search, strict=True):
            rows[:, part] *= share / stored
        asked = self.lift(rows)
        length = np.sqrt(sum(share**2 / stored for stored, share in zip(self.stored, self.search, strict=True)))
        lengths = np.linalg.norm(asked, axis=1, keepdims=True)
        return (asked * (length / np.maximum(lengths, 1e-12))).astype(asked.dtype).reshape(np.shape(vectors))

    @cached_property
    def signs(self) -> tuple[np.ndarray, np.ndarray]:
        """Two times ``(length,)`` 1 or -1, always the same: before each of the two transforms."""
        bits = hashlib.shake_256(b"shop-similarity questions").digest(self.length // 4)
        signs = np.unpackbits(np.frombuffer(bits, np.uint8)).astype(np.float32) * 2 - 1
        return signs[: self.length], signs[self.length :]

    @cached_property
    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """Symmetric and orthogonal: the transform is that of the columns and the rows of a square, or nearly one."""
        bits = self.length.bit_length() - 1
        return _hadamard(bits // 2), _hadamard(bits - bits // 2)

    def _transformed(self, rows: np.ndarray) -> np.ndarray:
        one, other = (matrix.astype(rows.dtype) for matrix in self.matrices)
        square = rows.reshape(-1, len(one), len(other))
        return (one @ square @ other).reshape(len(rows), self.length)


def _hadamard(bits: int) -> np.ndarray:
    """``(2 ** bits, 2 ** bits)``, symmetric and orthogonal."""
    matrix = np.ones((1, 1))
    for _ in range(bits):
        matrix = np.kron(matrix, np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2))
    return matrix
