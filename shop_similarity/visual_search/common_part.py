"""Taking out of a shopper's photo what all shoppers' photos share.

Snapshots are taken at home, a shop's photos in a studio. So all snapshots differ from all photos of a shop in one
direction, which says nothing about what is on them, and a search answers with those products whose photos happen to
lie in it: a hoodie on a carpet finds bags. The mean of earlier snapshots is that direction, near enough after a few of
them. It is subtracted from the query alone; the shop's vectors stay as they are. ``docs/visual_search.md`` has figures.
"""

from __future__ import annotations

import numpy as np

from .. import database
from ..models import EMBEDDING_DIM, ModelVersion, VisualQueryMean

# Photos that the mean has to rest on until half of it is subtracted.
HALF = 5
# Later photos move the mean as if it rested on no more than so many, so that it follows what shoppers search for.
MEMORY = 500


def without_common_part(version: ModelVersion, vector: np.ndarray) -> np.ndarray:
    """The vector to search with, and the mean moved on by this one.

    Args:
        version: by which the photo was embedded.
        vector: (4096,) of length 1, finite.

    Returns:
        (4096,) of length 1: the direction of ``vector - n / (n + 5) * mean`` of the n photos before.
    """
    vector = np.asarray(vector, np.float32)
    using = database.write_alias()
    with database.atomic(using):
        means = VisualQueryMean.objects.using(using)
        start = {"mean": np.zeros(EMBEDDING_DIM, "<f4").tobytes(), "photos": 0}
        means.get_or_create(version_id=version.pk, defaults=start)
        row = means.select_for_update().get(version_id=version.pk)
        mean = np.frombuffer(row.mean, "<f4")
        rest = vector - row.photos / (row.photos + HALF) * mean
        row.photos += 1
        row.mean = (mean + (vector - mean) / min(row.photos, MEMORY)).astype("<f4").tobytes()
        row.save(using=using)
    length = float(np.linalg.norm(rest))
    return rest / length if length > 1e-4 else vector
