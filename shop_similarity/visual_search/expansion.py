"""Drawing a shopper's photo towards those photos of the shop that are nearest to it.

A snapshot is far from every photo of a shop, so which one is nearest is half chance. What the nearest ones of several
products have in common is not: their weighted mean, added to the query, finds more of the same kind (query expansion:
Chum and others, ICCV 2007; weighted by similarity: Radenovic and others, arXiv 1711.02512, section 3.3). A photo that
the shop has the like of stays as it is. ``docs/visual_search.md`` has figures.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine_errors import EngineDown
from ..models import Embedding, ModelVersion
from ..search import search_by_vector
from ..search.options import SearchOptions

PRODUCTS = 30
"""So many products, by their nearest photo each."""

# Snapshots reach .12 to .23 with the nearest photo, a photo of the same style in a studio .41 and more.
LIKE = 0.3


def drawn_to_the_shop(version: ModelVersion, vector: np.ndarray) -> np.ndarray:
    """The vector to search with.

    Args:
        version: by which the photo was embedded.
        vector: (4096,) of length 1.

    Returns:
        (4096,) of length 1: the direction of the vector plus that of the mean of the nearest photos of the nearest
        products that the shop shows; the vector itself where there are none, or one with a cosine of :data:`LIKE`, or
        while the engine that names them is away.
    """
    options = SearchOptions(limit=PRODUCTS, rules=False, diversity=0.0, sold_out=True)
    try:
        found: list[Any] = search_by_vector(vector, version=version, options=options)
    except EngineDown:
        # The worker has others to answer, and who asks for the results is told of the engine.
        return vector
    nearest = {
        product.similar_image_id: product.similarity
        for product in found
        if product.similar_image_id is not None and product.similarity > 0
    }
    if not nearest or max(nearest.values()) >= LIKE:
        return vector
    rows = Embedding.objects.filter(version=version, image_id__in=nearest).values_list("image_id", "vector")
    mean = sum(nearest[image] * np.asarray(stored, np.float32) for image, stored in rows)
    length = np.linalg.norm(mean)
    if not length:
        return vector
    drawn = vector + mean / length
    return drawn / np.linalg.norm(drawn)
