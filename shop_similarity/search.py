"""Search: which products look like a product, or like a vector.

Three ways to the same answer, chosen by how many photos there are among the products that may be shown:

* *exact*: few photos, every vector is compared;
* *codes*: more, all sign codes are scanned and the nearest ones compared exactly;
* *index*: many, the HNSW index over the codes of the version names the candidates, which are compared exactly.

A search that the index leaves with fewer products than asked for is done again by scanning the codes, so a filter never
costs results.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from django.core.exceptions import EmptyResultSet
from django.db import connections, models, router, transaction
from django.db.models import QuerySet
from pgvector import HalfVector

from .catalogue import get_catalogue
from .conf import get_settings
from .models import EMBEDDING_DIM, Embedding, ModelVersion
from .search_options import SearchOptions

_TABLE = Embedding._meta.db_table


class Path(Enum):
    """How candidates are found."""

    EXACT = "exact"
    CODES = "codes"
    INDEX = "index"


@dataclass(frozen=True)
class Match:
    """A product that looks alike, by key.

    Attributes:
        product_id: its primary key.
        similarity: cosine of the two most similar photos, -1 to 1.
        image_id: key of the row that holds its most similar photo.
    """

    product_id: Any
    similarity: float
    image_id: Any


def searched_version() -> ModelVersion | None:
    """The version that searches use now. Its metrics, which pages do not need, are left in the table."""
    return ModelVersion.objects.defer("metrics", "config", "preprocessing").active()


def similar_products(
    product: models.Model,
    limit: int = 8,
    among: QuerySet | None = None,
    *,
    version: ModelVersion | None = None,
    options: SearchOptions | None = None,
) -> list[models.Model]:
    """Products that look like ``product``, most similar first.

    Args:
        product: an instance of the product model.
        limit: how many; that many come back whenever so many others are embedded in ``among``.
        among: queryset of the products that may be returned; what the ``PRODUCTS`` setting says by default.
        version: model version to search with; the active one by default.

    Returns:
        Product instances with their photos prefetched, each with ``similarity`` (cosine of the two most similar photos,
        -1 to 1) and ``similar_image_id`` (key of the photo that is most similar). Empty while the product has no
        embedding. Products that share the product's category come first where they are nearly as similar, see
        ``CATEGORY_BOOST``.

    Raises:
        ValueError: ``limit`` is negative or ``among`` is a queryset of another model.
    """
    options = options or SearchOptions(limit=limit)
    limit = options.limit
    version = version or searched_version()
    if version is None or product.pk is None:
        return []
    among = options.filters.apply(_allowed(among))
    matches = find_matches(
        version,
        _Query.of_product(version, product),
        limit=_with_margin(limit),
        among=among,
        exclude=[product.pk],
    )
    matches = _prefer_category(matches, product)
    return _load(matches, among, limit)


def search_by_vector(
    vector: Sequence[float] | np.ndarray,
    limit: int = 8,
    among: QuerySet | None = None,
    exclude: Collection[Any] = (),
    *,
    version: ModelVersion | None = None,
    options: SearchOptions | None = None,
) -> list[models.Model]:
    """Products that look like what a vector was made of, most similar first.

    Args:
        vector: (4096,) embedding by the same model version.
        limit, among, version: as for :func:`similar_products`.
        exclude: keys of products to leave out.

    Returns:
        Product instances as :func:`similar_products` returns them.

    Raises:
        ValueError: the vector has another length, is not finite or is zero.
    """
    options = options or SearchOptions(limit=limit)
    limit = options.limit
    version = version or searched_version()
    if version is None:
        return []
    among = options.filters.apply(_allowed(among))
    matches = find_matches(version, _Query.of_vector(vector), limit=limit, among=among, exclude=exclude)
    return _load(matches, among, limit)


def similar_to_several(
    products: Sequence[models.Model],
    limit: int = 8,
    among: QuerySet | None = None,
    *,
    version: ModelVersion | None = None,
    options: SearchOptions | None = None,
) -> list[models.Model]:
    """Products that look like several products at once, such as those in a basket."""
    options = options or SearchOptions(limit=limit)
    found: dict[Any, models.Model] = {}
    asked = {product.pk for product in products}
    for product in products:
        for other in similar_products(product, options.limit, among, version=version, options=options):
            if other.pk not in asked:
                found.setdefault(other.pk, other)
    return sorted(found.values(), key=lambda other: -other.similarity)[: options.limit]


@dataclass(frozen=True)
class _Query:
    """SQL that yields the vectors to compare with, as rows (vector, code)."""

    sql: str
    parameters: tuple

    @classmethod
    def of_product(cls, version: ModelVersion, product: models.Model) -> _Query:
        catalogue = get_catalogue()
        connection = connections[router.db_for_read(Embedding)]
        key = Embedding._meta.get_field("product_id").get_db_prep_value(product.pk, connection)
        sql = f"SELECT vector, code FROM {_TABLE} WHERE version_id = {int(version.pk)} AND product_id = %s"
        count = get_settings().query_images
        if catalogue.accessor is None:
            return cls(sql, (key,))
        # The shop's own order decides which photos of a product with very many speak for it.
        first = (
            catalogue.image_model._default_manager.filter(**{catalogue.product_field: product.pk})
            .exclude(**{catalogue.file_field: ""})
            .values("pk")[:count]
        )
        first_sql, first_parameters = first.query.sql_with_params()
        return cls(f"{sql} AND image_id IN ({first_sql})", (key, *first_parameters))

    @classmethod
    def of_vector(cls, vector: Sequence[float] | np.ndarray) -> _Query:
        array = np.asarray(vector, dtype=np.float32)
        if array.shape != (EMBEDDING_DIM,):
            raise ValueError(f"The vector has shape {array.shape}; embeddings have {EMBEDDING_DIM} numbers.")
        if not np.isfinite(array).all() or not array.any():
            raise ValueError("The vector is zero or not finite, so nothing can be similar to it.")
        text = HalfVector(array / np.linalg.norm(array)).to_text()
        return cls(
            f"SELECT q.vector, binary_quantize(q.vector)::bit({EMBEDDING_DIM}) AS code "
            f"FROM (SELECT %s::halfvec({EMBEDDING_DIM}) AS vector) q",
            (text,),
        )


def _with_margin(limit: int) -> int:
    # The category's preference can only lift what was found: look a little further than what is shown.
    return limit if not get_settings().category or limit == 0 else 2 * limit + 8


def _allowed(among: QuerySet | None) -> QuerySet:
    catalogue = get_catalogue()
    if among is None:
        return catalogue.visible_products()
    if not issubclass(among.model, catalogue.product_model):
        raise ValueError(f"among is a queryset of {among.model._meta.label}, not of products.")
    return among


def find_matches(
    version: ModelVersion,
    query: _Query,
    *,
    limit: int,
    among: QuerySet | None,
    exclude: Collection[Any] = (),
    path: Path | None = None,
) -> list[Match]:
    """The most similar products by key, at most ``limit``, best photo per product, most similar first.

    Args:
        version: the model version whose embeddings are searched.
        query: the vectors to compare with.
        among: queryset of the products that may be found, None for all.
        exclude: keys of products to leave out.
        path: how candidates are found; chosen by the number of photos by default.
    """
    if limit < 0:
        raise ValueError(f"limit is {limit}; it can't be negative.")
    if limit == 0:
        return []
    condition = _Condition.build(version, among, exclude)
    if condition is None:
        return []
    # Which few products are left out changes with every page and decides nothing.
    chosen = path or choose_path(_Condition.build(version, among, ()))
    candidates = max(get_settings().candidates, 4 * limit)
    if chosen is Path.INDEX:
        found = _run(Path.INDEX, query, condition, limit, candidates)
        if len(found.matches) >= limit:
            return found.matches
        chosen = Path.CODES
    # Where one product has very many photos, the nearest candidates may hold too few products: look further.
    while chosen is Path.CODES:
        found = _run(Path.CODES, query, condition, limit, candidates)
        if len(found.matches) >= limit or found.compared < candidates * found.queries or not found.queries:
            return found.matches
        candidates *= 10
        if candidates > get_settings().index_rows:
            chosen = Path.EXACT
    return _run(Path.EXACT, query, condition, limit, candidates).matches


@dataclass(frozen=True)
class _Condition:
    """Which embeddings may be found, as SQL on the alias ``e``."""

    sql: str
    parameters: tuple

    @classmethod
    def build(cls, version: ModelVersion, among: QuerySet | None, exclude: Collection[Any]) -> _Condition | None:
        # The version is written out, for only a literal lets the planner see that the version's own index fits.
        sql = f"e.version_id = {int(version.pk)}"
        parameters: list[Any] = []
        if among is not None:
            keys = among.order_by().values("pk") if not among.query.is_sliced else among.values("pk")
            try:
                keys_sql, keys_parameters = keys.query.sql_with_params()
            except EmptyResultSet:
                return None
            sql += f" AND e.product_id IN ({keys_sql})"
            parameters += keys_parameters
        if exclude:
            field = Embedding._meta.get_field("product_id")
            connection = connections[router.db_for_read(Embedding)]
            sql += " AND e.product_id <> ALL(%s)"
            parameters.append([field.get_db_prep_value(key, connection) for key in exclude])
        return cls(sql, tuple(parameters))


_PATH_SECONDS = 60
_paths: dict[tuple, tuple[float, Path]] = {}


def choose_path(condition: _Condition) -> Path:
    """The way to search, by the number of photos that the condition admits.

    The choice is kept for a minute: one made on an old number is slower, never wrong.
    """
    settings = get_settings()
    key = (condition.sql, repr(condition.parameters), settings)
    kept = _paths.get(key)
    if kept is not None and kept[0] > time.monotonic():
        return kept[1]
    # Counting stops at the first number that decides, so it costs no more in a shop of millions.
    most = max(settings.exact_rows, settings.index_rows) + 1
    with connections[router.db_for_read(Embedding)].cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {_TABLE} e WHERE {condition.sql} LIMIT {most}) counted",
            condition.parameters,
        )
        rows = cursor.fetchone()[0]
    path = Path.EXACT if rows <= settings.exact_rows else Path.CODES if rows <= settings.index_rows else Path.INDEX
    if len(_paths) >= 1_000:
        _paths.clear()
    _paths[key] = (time.monotonic() + _PATH_SECONDS, path)
    return path


@dataclass(frozen=True)
class _Found:
    matches: list[Match]
    # Pairs of photos whose cosine was computed, and the number of photos that were asked with.
    compared: int
    queries: int


def _run(path: Path, query: _Query, condition: _Condition, limit: int, candidates: int) -> _Found:
    if path is Path.EXACT:
        source = f"query q CROSS JOIN {_TABLE} e WHERE {condition.sql}"
    else:
        # The sum hides the expression from the index: behind a narrow filter it would find too little.
        order = "e.code <~> q.code" if path is Path.INDEX else "(e.code <~> q.code) + 0"
        source = f"""query q CROSS JOIN LATERAL (
                SELECT e.id FROM {_TABLE} e WHERE {condition.sql} ORDER BY {order} LIMIT {int(candidates)}
            ) c JOIN {_TABLE} e ON e.id = c.id"""
    sql = f"""
        WITH query AS MATERIALIZED ({query.sql}),
        compared AS (
            SELECT e.product_id, e.image_id, 1 - (e.vector <=> q.vector) AS similarity FROM {source}
        )
        SELECT product_id, max(similarity) AS best, (array_agg(image_id ORDER BY similarity DESC, image_id))[1],
               sum(count(*)) OVER (), (SELECT count(*) FROM query)
        FROM compared GROUP BY product_id ORDER BY best DESC, product_id LIMIT %s"""
    using = router.db_for_read(Embedding)
    with _scan_settings(path, candidates, using), connections[using].cursor() as cursor:
        cursor.execute(sql, [*query.parameters, *condition.parameters, limit])
        rows = cursor.fetchall()
    product_key = Embedding._meta.get_field("product_id")
    image_key = Embedding._meta.get_field("image_id")
    matches = [
        Match(product_key.to_python(product_id), float(similarity), image_key.to_python(image_id))
        for product_id, similarity, image_id, *_counts in rows
    ]
    return _Found(matches, int(rows[0][3]), rows[0][4]) if rows else _Found([], 0, 0)


@contextmanager
def _scan_settings(path: Path, candidates: int, using: str) -> Iterator[None]:
    """Settings of the index scan for one statement, gone with its transaction."""
    if path is not Path.INDEX:
        yield
        return
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'relaxed_order', true)",
            [str(min(candidates, 1_000))],
        )
        yield


def _prefer_category(matches: list[Match], product: models.Model) -> list[Match]:
    settings = get_settings()
    if not settings.category or not matches or not settings.category_boost:
        return matches
    catalogue = get_catalogue()
    own = catalogue.all_products().filter(pk=product.pk, **{f"{settings.category}__isnull": False})
    same = set(
        catalogue.all_products()
        .filter(
            pk__in=[match.product_id for match in matches],
            **{f"{settings.category}__in": own.values(settings.category)},
        )
        .values_list("pk", flat=True)
    )
    return sorted(
        matches,
        key=lambda match: match.similarity + settings.category_boost * (match.product_id in same),
        reverse=True,
    )


def _load(matches: list[Match], among: QuerySet, limit: int) -> list[models.Model]:
    if not matches:
        return []
    catalogue = get_catalogue()
    wanted = among.model._default_manager.all() if among.query.is_sliced else among
    loaded = catalogue.with_images(wanted.order_by().filter(pk__in=[match.product_id for match in matches]))
    by_key = {product.pk: product for product in loaded}
    found = []
    for match in matches:
        product = by_key.get(match.product_id)
        if product is None:
            continue
        product.similarity = match.similarity
        product.similar_image_id = match.image_id
        product.pinned = False
        product.explanation = None
        found.append(product)
        if len(found) == limit:
            break
    return found
