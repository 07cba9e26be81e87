"""Look-alikes kept in Django's cache for a short while, so that a page that many look at is searched for once.

What is kept are keys and similarities. Products, prices and what may be shown are read anew every time; a list that has
become shorter by that is searched for again. Where an engine beside Postgres names the candidates, a list is kept for a
day more, for the time in which it does not answer.
"""

from __future__ import annotations

import hashlib
import logging
import time

from django.core.cache import cache
from django.db import models
from django.db.models import QuerySet

from .. import meters
from ..catalogue import get_catalogue
from ..conf import get_settings
from ..embedding.engines import is_beside
from ..engine_errors import EngineDown
from ..models import AspectBasis, Embedding, MerchandisingRule, ModelVersion
from .options import SearchOptions
from .paths import prepared_keys
from .ranking import Place
from .results import allowed_products, load, searched_version, similar_places
from .rules import relevant_rules
from .sql import Sql

logger = logging.getLogger(__name__)

_FORMAT = 3
# What was found is kept for so long for when the engine beside Postgres does not answer.
_STALE_SECONDS = 86_400


def cached_similar_products(
    product: models.Model,
    limit: int | None = None,
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
    settings = get_settings()
    options = SearchOptions.of(limit, options, min_similarity=settings.min_similarity)
    version = version or searched_version()
    allowed = allowed_products(among, options, [product])
    if version is None or product.pk is None:
        return []
    seconds = settings.widget_cache_seconds if among is None and options.limit else 0
    key = _key(product, version, options) if seconds else ""
    stale: list[models.Model] = []
    if key and (kept := _get(key)) is not None:
        until, places = kept
        products = load(places, allowed)
        if time.time() < until and len(products) == len(places):
            meters.count_list(True)
            return products
        stale = products
    if key:
        meters.count_list(False)
    try:
        places = similar_places(product, version, allowed, options)
    except EngineDown:
        if stale:
            return stale
        raise
    products = load(places, allowed)
    # A short list may be short because photos are still being embedded, unless a bound of similarity explains it.
    if key and (len(products) >= options.limit or (products and options.min_similarity is not None)):
        _set(key, (time.time() + seconds, places), seconds + _STALE_SECONDS * is_beside())
    return products


def _key(product: models.Model, version: ModelVersion, options: SearchOptions) -> str:
    """Changes with the product's embeddings, its rules in force and the version's aspects, which one query asks for."""
    columns = [
        Sql.of(
            "(SELECT count(*)::text || coalesce(max(embedded_at)::text, '') FROM {table} "
            "WHERE version_id = {version} AND product_id = {key}) AS embeddings",
            table=Sql(Embedding._meta.db_table),
            version=version.pk,
            key=prepared_keys([get_catalogue().shown_key(product)])[0],
        )
    ]
    if options.rules:
        # The whole rows, for QuerySet.update() leaves the time of the change as it was.
        columns.append(
            Sql.of(
                "(SELECT md5(string_agg(r::text, ',' ORDER BY r.id)) FROM {table} r WHERE r.id IN ({rules})) AS rules",
                table=Sql(MerchandisingRule._meta.db_table),
                rules=Sql.of_queryset(relevant_rules([product]).order_by().values("pk")),
            )
        )
    if options.lean is not None or options.explain:
        table = Sql(AspectBasis._meta.db_table)
        columns.append(
            Sql.of(
                "(SELECT sha256 FROM {table} WHERE version_id = {version}) AS aspects", table=table, version=version.pk
            )
        )
    stamps = Sql.of("SELECT {columns}", columns=Sql.join(", ", columns)).rows()[0]
    parts = (_FORMAT, version.pk, str(product.pk), options, get_settings(), *stamps)
    return f"shop_similarity:similar:{hashlib.sha256(repr(parts).encode()).hexdigest()}"


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


def _get(key: str) -> tuple[float, list[Place]] | None:
    global _unheard
    try:
        kept = cache.get(key)
    # Backends raise whatever their clients raise; none of it may cost a page.
    except Exception as error:
        _failed(error)
        return None
    _unheard = False
    return kept


def _set(key: str, kept: tuple[float, list[Place]], seconds: int) -> None:
    try:
        cache.set(key, kept, seconds)
    except Exception as error:
        _failed(error)
