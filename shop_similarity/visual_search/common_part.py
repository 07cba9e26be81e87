"""Taking out of a shopper's photo what all shoppers' photos share.

Snapshots are taken at home, a shop's photos in a studio. So all snapshots differ from all photos of a shop in one
direction, which says nothing about what is on them, and a search answers with those products whose photos happen to
lie in it: a hoodie on a carpet finds bags. The mean of earlier snapshots is that direction, near enough after a few of
them. It is subtracted from the query alone; the shop's vectors stay as they are. Which snapshots move it,
:mod:`.votes` decides. ``docs/visual_search.md`` has figures.
"""

from __future__ import annotations

import numpy as np

from .. import database
from ..models import ModelVersion, VisualQueryMean

# Photos that the mean has to rest on until half of it is subtracted.
HALF = 5
# What is searched with has this cosine with the photo at least: honest snapshots, full weight and all, have .73.
LEAST = 0.7


def without_common_part(version: ModelVersion, vector: np.ndarray) -> np.ndarray:
    """The vector to search with.

    Args:
        version: by which the photo was embedded.
        vector: (4096,) of length 1, finite.

    Returns:
        (4096,) of length 1: the direction of ``vector - n / (n + 5) * mean`` of n other shoppers' photos; of less of
        the mean, where nothing of the photo would be left, as it would of one whose like somebody has uploaded often.
    """
    vector = np.asarray(vector, np.float32)
    row = VisualQueryMean.objects.using(database.write_alias()).filter(version=version).first()
    if row is None:
        return vector
    mean = np.frombuffer(row.mean, "<f4")
    weight = row.photos / (row.photos + HALF)
    while (rest := vector - weight * mean) @ vector <= LEAST * np.linalg.norm(rest):
        weight *= 0.9
    return rest / np.linalg.norm(rest)
