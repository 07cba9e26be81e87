"""Names for sets of photos by what is in them, so that figures are only compared where they measured the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def fingerprint(parts: Iterable[Sequence[object]]) -> str:
    """SHA-256 of rows of text and numbers: equal for equal rows in equal order, wherever they were read from."""
    digest = hashlib.sha256()
    for row in parts:
        for value in row:
            data = str(value).encode()
            # The length keeps ("ab", "c") apart from ("a", "bc").
            digest.update(b"%d:%b" % (len(data), data))
        digest.update(b"\n")
    return digest.hexdigest()
