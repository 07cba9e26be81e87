"""What makes a vector usable: 4096 finite numbers with a length above 0, and not the same for every photo."""

from __future__ import annotations

import secrets

import numpy as np
from django.utils.translation import gettext as _

from .. import database
from ..models import EMBEDDING_DIM, Embedding, ModelVersion

# Photos of as many contents must have nearly the same vector before a network is said to have collapsed: a small shop's
# few photos may show the same thing.
FEWEST = 8
# So many are looked at.
SAMPLE = 64
# The lowest cosine that nearly the same vectors have. Rounding to half precision costs a cosine .0000002.
SAME = 0.99999


def unusable_rows(vectors: np.ndarray) -> np.ndarray:
    """Which vectors can't be searched with, as indices.

    Args:
        vectors: ``(n, d)``; of another length than 4096 all of them are unusable.
    """
    if vectors.ndim != 2 or vectors.shape[1] != EMBEDDING_DIM:
        return np.arange(len(vectors))
    # A sum of squares that overflows is no length either.
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float32, copy=False), axis=1)
    return np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))


def are_nearly_the_same(vectors: np.ndarray) -> bool:
    """Whether the vectors of photos with different contents tell none of them from another.

    Args:
        vectors: ``(n, 4096)``, usable; fewer than :data:`FEWEST` say nothing.
    """
    if len(vectors) < FEWEST:
        return False
    rows = np.array(vectors[:: -(-len(vectors) // SAMPLE)], np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return bool((rows @ rows.T).min() > SAME)


def fault_of(version: ModelVersion) -> str:
    """Why the vectors that a version has so far can't be searched with, as a sentence; empty if they can.

    It looks at those of some photos with different contents, from a place in the index of contents that is drawn anew
    each time: a SHA-256 is as good as a random number.
    """
    rows = Embedding.objects.using(database.write_alias()).filter(version=version.pk).order_by("content_sha256")
    start = secrets.token_hex(32)
    found: dict[str, np.ndarray] = {}
    for part in (rows.filter(content_sha256__gte=start), rows.filter(content_sha256__lt=start)):
        for digest, vector in part.values_list("content_sha256", "vector")[: SAMPLE - len(found)]:
            found[digest] = np.asarray(vector, np.float32)
    vectors = np.stack(list(found.values())) if found else np.zeros((0, EMBEDDING_DIM), np.float32)
    names = {"version": version.name}
    if count := len(unusable_rows(vectors)):
        return _(
            "%(count)d of %(all)d vectors of %(version)s that were looked at are 0: no product is found by them. Its "
            "weights are damaged; make a new version."
        ) % {**names, "count": count, "all": len(vectors)}
    if are_nearly_the_same(vectors):
        return _(
            "%(version)s has nearly the same vector for %(count)d different photos, so that all products look alike to "
            "it. Its weights are damaged or its training diverged; make a new version."
        ) % {**names, "count": len(vectors)}
    return ""
