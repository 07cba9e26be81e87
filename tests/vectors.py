"""Made-up embeddings."""

from __future__ import annotations

import numpy as np

DIM = 4096


def random_vectors(count: int, *, clusters: int = 0, seed: int = 0) -> np.ndarray:
    """``(count, 4096)`` vectors of length 1; around ``clusters`` centres, where any are asked for."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count, DIM)).astype(np.float32)
    if clusters:
        centres = random.standard_normal((clusters, DIM)).astype(np.float32)
        vectors = centres[random.integers(clusters, size=count)] + 0.7 * vectors
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
