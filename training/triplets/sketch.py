"""A small sample of a large set, by which a later run can tell how much of another set was in it.

A bottom-k sketch (E. Cohen and H. Kaplan, "Summarizing data using bottom-k sketches", PODC 2007): every value is
hashed, and the smallest hashes are kept. Of another set's values those are looked up whose hashes are as small, so what
is found is a fair sample of what the two share, and sketches of two sets join to that of both.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

SIZE = 512
"""Of 20,000 values every 39th: of 2,000 others, 5 % of which were among them, some are found with a chance of 93 %."""

_ALL = 2**32


@dataclass(frozen=True)
class Sketch:
    """The values whose hash is smallest.

    Attributes:
        words: their hashes of 32 bits, all below the limit.
        limit: every value of the set with a smaller hash is here; 2**32 where all of them are.
    """

    words: frozenset[int] = frozenset()
    limit: int = _ALL

    @classmethod
    def of(cls, values: Iterable[str]) -> Self:
        """The sketch of a set."""
        return cls._smallest({_word(value) for value in values}, _ALL)

    @classmethod
    def _smallest(cls, words: Iterable[int], limit: int) -> Self:
        ordered = sorted(word for word in words if word < limit)
        if len(ordered) > SIZE:
            limit = ordered[SIZE]
        return cls(frozenset(ordered[:SIZE]), limit)

    def __or__(self, other: Sketch) -> Sketch:
        return self._smallest(self.words | other.words, min(self.limit, other.limit))

    def found(self, values: Iterable[str]) -> tuple[int, int]:
        """How many of some different values were in the set, and how many of them could be looked up."""
        words = [word for word in map(_word, values) if word < self.limit]
        return sum(word in self.words for word in words), len(words)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, at most 2.8 KB."""
        words = np.array(sorted(self.words), dtype=">u4")
        return {"words": base64.b64encode(words.tobytes()).decode(), "limit": self.limit}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            ValueError: for anything else.
        """
        try:
            data = base64.b64decode(values["words"], validate=True)
            return cls._smallest(np.frombuffer(data, dtype=">u4").tolist(), int(values["limit"]))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise ValueError("This is no record of what a version was trained on.") from error


def _word(value: str) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
