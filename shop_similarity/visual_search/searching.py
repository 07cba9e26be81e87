"""From an answered query to products."""

from __future__ import annotations

import numpy as np
from django.db import models

from ..models import ModelVersion, VisualQuery
from ..search import search_by_vector
from ..search.options import SearchOptions
from .errors import Expired
from .queue import queries
from .waiting import wait


def results(query: VisualQuery, options: SearchOptions | None = None) -> list[models.Model]:
    """Products that look like the photo of a query, most similar first.

    They are found by the model version that embedded the photo, also after another one has become active, as long as
    the shop's photos are embedded for it. After that nothing can be compared any more, and the photo is not there to be
    embedded anew.

    Args:
        query: an answered query.
        options: filters, lean, paging; see :class:`shop_similarity.search.options.SearchOptions`.

    Returns:
        Product instances as :func:`shop_similarity.search.similar_products` returns them.

    Raises:
        Busy: the query is not answered yet.
        Expired: the photo could not be embedded, the query is gone or its version is out of use.
    """
    wait(query, 0)
    row = queries().filter(pk=query.pk).values_list("vector", "version__state").first()
    if row is None or row[0] is None or row[1] not in ModelVersion.LIVE:
        raise Expired(VisualQuery.Error.GONE.label)
    vector = np.asarray(row[0].to_list() if hasattr(row[0], "to_list") else row[0], dtype=np.float32)
    return search_by_vector(vector, version=query.version, options=options or SearchOptions())
