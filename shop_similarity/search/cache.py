"""Look-alikes kept in Django's cache for a short while, so that a page that many look at is searched for once.

What is kept are keys and similarities. Products, prices and what may be shown are read anew every time; a list that has
become shorter by that is searched for again.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from django.core.cache import cache
from django.db import connections, models, router
from django.db.models import QuerySet

from ..conf import get_settings
from ..models import AspectBasis, Embedding, MerchandisingRule, ModelVersion
from .options import SearchOptions
from .results import allowed_products, find_similar, load, of_products, searched_version, similar_products
from .rules import relevant_rules

logger = logging.getLogger(__name__)

_FORMAT = 1


def cached_similar_products(
    product: models.Model,
    limit: int = 8,
    among: QuerySet | None = None,
    *,
    version: ModelVersion | None = None,
    options: SearchOptions | None = None,
) -> list[models.Model]:
    """:func:`shop_similarity.search.similar_products`, kept for ``WIDGET_CACHE_SECONDS``; what the widget calls.

    A list is searched for anew as soon as the product's photos, the merchandising rules, the settings or the version
    are others, and each time where ``among`` is given, or less was found than asked for and no ``min_similarity`` is
    the reason. Changes elsewhere in the catalogue (a new look-alike, another category) count when the time is over. A
    cache that does not answer is logged and done without.

    Args, Returns, Raises: as for :func:`shop_similarity.search.similar_products`.
    """
    options = options or SearchOptions(limit=limit)
    seconds = get_settings().widget_cache_seconds
    version = version or searched_version()
    if not seconds or among is not None or version is None or product.pk is None or not options.limit:
        return similar_products(product, among=among, version=version, options=options)
    allowed = allowed_products(None, options)
    key = _key(product, version, options)
    kept = _get(key)
    if kept is not None:
        products = load(kept, allowed)
        if len(products) == len(kept):
            return products
    found = find_similar(product, version, allowed, options)
    products = load(found, allowed)
    # A short list may be short because photos are still being embedded, unless a bound of similarity explains it.
    if len(products) >= options.limit or (products and of_products(options).min_similarity is not None):
        _set(key, found, seconds)
    return products


def _key(product: models.Model, version: ModelVersion, options: SearchOptions) -> str:
    parts = (_FORMAT, version.pk, str(product.pk), options, get_settings(), *_stamps(product, version, options))
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return f"shop_similarity:similar:{digest}"


def _stamps(product: models.Model, version: ModelVersion, options: SearchOptions) -> tuple:
    """What changes with the product's embeddings, its rules in force and the version's aspects: one query."""
    using = router.db_for_read(Embedding)
    connection = connections[using]
    key = Embedding._meta.get_field("product_id").get_db_prep_value(product.pk, connection)
    own = (
        f"SELECT count(*)::text || coalesce(max(embedded_at)::text, '') FROM {Embedding._meta.db_table} "
        f"WHERE version_id = %s AND product_id = %s"
    )
    columns, parameters = [f"({own})"], [version.pk, key]
    if options.rules:
        rules, rules_parameters = relevant_rules([product]).order_by().values("pk").query.sql_with_params()
        # The whole rows, for QuerySet.update() leaves the time of the change as it was.
        columns.append(
            f"(SELECT md5(string_agg(r::text, ',' ORDER BY r.id)) FROM {MerchandisingRule._meta.db_table} r "
            f"WHERE r.id IN ({rules}))"
        )
        parameters += rules_parameters
    if options.lean is not None or options.explain:
        columns.append(f"(SELECT sha256 FROM {AspectBasis._meta.db_table} WHERE version_id = %s)")
        parameters.append(version.pk)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)}", parameters)
        return cursor.fetchone()


_unheard = False


def _failed(error: Exception) -> None:
    global _unheard
    if not _unheard:
        logger.warning(
            "The cache does not answer, so look-alikes are searched for on every page. Check CACHES['default']. %s: %s",
            type(error).__name__,
            error,
        )
    _unheard = True


def _get(key: str) -> Any:
    global _unheard
    try:
        kept = cache.get(key)
    # Backends raise whatever their clients raise; none of it may cost a page.
    except Exception as error:
        _failed(error)
        return None
    _unheard = False
    return kept


def _set(key: str, found: Any, seconds: int) -> None:
    try:
        cache.set(key, found, seconds)
    except Exception as error:
        _failed(error)
