"""Candidates of a search: one SQL statement that finds products, compares them exactly and says what ranking needs.

Candidates come in pools. The first is as large as nearly every page needs; where pages further down, variants that were
left out or a narrow filter ask for more, the next one looks four times as far. A pool holds nothing that an earlier one
held and depends on nothing but the query, so a list that is made pool after pool can be paged through.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, models, router
from django.db.models import F, QuerySet
from django.db.models.functions import Cast

from ..catalogue import get_catalogue
from ..catalogue.field_paths import setting_path
from ..conf import get_settings
from ..models import EMBEDDING_DIM, Embedding, ModelVersion
from .paths import Condition, Path, choose_path, keys_sql, prepared_keys, scan_settings
from .queries import Query

_TABLE = Embedding._meta.db_table
_POOL = 100
_WIDER = 4
# Where so many products are all variants of a few, a shorter list is better than a page that takes seconds.
_MOST = 6_400


@dataclass(frozen=True)
class Match:
    """A product that looks alike, by key.

    Attributes:
        product_id: its primary key.
        similarity: cosine of the two most similar photos, -1 to 1; to several products the mean of those.
        image_id: key of the row that holds its most similar photo.
    """

    product_id: Any
    similarity: float
    image_id: Any


@dataclass(frozen=True)
class Candidate(Match):
    """A match with what the ranking asks about it.

    Attributes:
        code: signs of the vector of the most similar photo, 512 bytes.
        categories: values of the ``CATEGORY`` path, as text.
        variant_groups: values of the ``VARIANT_GROUP`` path, as text.
    """

    code: bytes = b""
    categories: frozenset[str] = frozenset()
    variant_groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Pool:
    """Some candidates, most similar first, and what the products that were asked with have themselves."""

    candidates: list[Candidate]
    own_categories: frozenset[str] = frozenset()
    own_variant_groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scope:
    """Where candidates are looked for.

    Attributes:
        version: the model version whose embeddings are searched.
        query: the vectors to compare with.
        among: queryset of the products that may be found, None for all.
        exclude: keys of products to leave out.
        hidden: queryset of more products to leave out.
        asked: keys of the products that are asked with.
        named: keys of products that are candidates however unlike they are, if ``among`` has them.
        lifted: queryset of products of which the nearest are candidates, however many others are nearer.
    """

    version: ModelVersion
    query: Query
    among: QuerySet | None
    exclude: Collection[Any] = ()
    hidden: QuerySet | None = None
    asked: Sequence[Any] = ()
    named: Sequence[Any] = ()
    lifted: QuerySet | None = None


def pools(scope: Scope, limit: int) -> Iterator[Pool]:
    """Candidates, pool after pool; the same pools for all limits up to an eighth of ``CANDIDATES`` and up to 32."""
    # Powers of two, so that pages of nearly the same length are cut from the same list.
    rounded = 1 << max(limit - 1, 1).bit_length()
    seen: set[Any] = set()
    for found in _levels(scope, max(_POOL, 2 * rounded), max(get_settings().candidates, 4 * rounded), ranked=True):
        fresh = [candidate for candidate in found.candidates if candidate.product_id not in seen]
        seen.update(candidate.product_id for candidate in fresh)
        yield Pool(fresh, found.own_categories, found.own_variant_groups)


def find_matches(
    version: ModelVersion,
    query: Query,
    *,
    limit: int,
    among: QuerySet | None,
    exclude: Collection[Any] = (),
    path: Path | None = None,
) -> list[Match]:
    """The most similar products by key, at most ``limit``, best photo per product, most similar first.

    Nothing but similarity counts here; :mod:`shop_similarity.search` ranks for shoppers.

    Args:
        version: the model version whose embeddings are searched.
        query: the vectors to compare with.
        among: queryset of the products that may be found, None for all.
        exclude: keys of products to leave out.
        path: how candidates are found; chosen by the number of photos by default.

    Raises:
        ValueError: ``limit`` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit is {limit}; it can't be negative.")
    matches: list[Match] = []
    if limit:
        scope = Scope(version, query, among, exclude)
        for found in _levels(scope, limit, max(get_settings().candidates, 4 * limit), path=path):
            matches = [Match(c.product_id, c.similarity, c.image_id) for c in found.candidates]
            if len(matches) >= limit:
                break
    return matches


@dataclass(frozen=True)
class _Found:
    candidates: list[Candidate] = field(default_factory=list)
    own_categories: frozenset[str] = frozenset()
    own_variant_groups: frozenset[str] = frozenset()
    # Photos that the codes named, and as many as they might have named.
    nearest: int = 0
    asked_for: int = 0
    full: bool = False


def _levels(
    scope: Scope, pool: int, candidates: int, *, ranked: bool = False, path: Path | None = None
) -> Iterator[_Found]:
    condition = Condition.build(scope.version, scope.among, scope.exclude, scope.hidden)
    if condition is None:
        return
    # Which few products are left out changes with every page and decides nothing.
    counted = Condition.build(scope.version, scope.among)
    path = path or choose_path(counted or condition)
    most = get_settings().index_rows
    while True:
        found = _run(path, scope, condition, pool, candidates, ranked)
        all_named = found.nearest >= found.asked_for
        if path is Path.INDEX and not all_named:
            # The index gave up behind a narrow filter: what it did find need not be the nearest.
            path = Path.CODES
            continue
        yield found
        if not found.full and (path is Path.EXACT or not all_named or not found.asked_for):
            return
        if found.full and pool >= _MOST:
            return
        pool *= _WIDER
        candidates *= _WIDER
        path = Path.EXACT if path is Path.EXACT or candidates > most else Path.CODES


def _run(path: Path, scope: Scope, condition: Condition, pool: int, candidates: int, ranked: bool) -> _Found:
    query = scope.query
    named = prepared_keys(scope.named)
    lifted = keys_sql(scope.lifted) if scope.lifted is not None else None
    parameters: list[Any] = [*query.parameters]

    probes, pairs = "query q", "c.n = q.n"
    if query.several:
        # What is a little like everything is near the mean and may be near nothing else. What one product named is
        # compared with all of them.
        candidates = max(10, candidates // 4)
        probes = (
            f"(SELECT n, code FROM query UNION ALL "
            f"SELECT 0, binary_quantize(avg(vector))::bit({EMBEDDING_DIM}) FROM query HAVING count(*) > 0) q"
        )
        pairs = "true"
    if path is Path.EXACT:
        nearest = "SELECT 0 AS n, 0 AS id WHERE false"
        source = f"query q CROSS JOIN {_TABLE} e WHERE {condition.sql}"
        parameters += condition.parameters
    else:
        # The sum hides the expression from the index: behind a narrow filter it would find too little.
        order = "e.code <~> q.code" if path is Path.INDEX else "(e.code <~> q.code) + 0"

        def scan(more: str) -> str:
            return (
                f"SELECT q.n, c.id FROM {probes} CROSS JOIN LATERAL (SELECT e.id FROM {_TABLE} e "
                f"WHERE {condition.sql}{more} ORDER BY {order} LIMIT {int(candidates)}) c"
            )

        nearest = scan("")
        parameters += condition.parameters
        found = "SELECT n, id FROM nearest"
        if lifted is not None:
            found += f" UNION {scan(f' AND e.product_id IN ({lifted[0]})')}"
            parameters += [*condition.parameters, *lifted[1]]
        if named:
            found += (
                f" UNION SELECT q.n, e.id FROM query q CROSS JOIN {_TABLE} e "
                f"WHERE {condition.sql} AND e.product_id = ANY(%s)"
            )
            parameters += [*condition.parameters, named]
        if query.several:
            found = f"SELECT DISTINCT id FROM ({found}) every"
        source = f"({found}) c JOIN query q ON {pairs} JOIN {_TABLE} e ON e.id = c.id"

    kind = "0"
    if named or lifted is not None:
        cases = ""
        if named:
            cases += " WHEN product_id = ANY(%s) THEN 2"
            parameters.append(named)
        if lifted is not None:
            cases += f" WHEN product_id IN ({lifted[0]}) THEN 1"
            parameters += lifted[1]
        kind = f"CASE{cases} ELSE 0 END"
    parameters.append(pool)

    columns = "p.product_id, p.similarity, p.image_id, p.kind, (SELECT count(*) FROM nearest)"
    columns += f", (SELECT count(*) FROM {probes}) * {int(candidates)}"
    joins = ""
    final: list[Any] = []
    if ranked:
        facts = _facts(scope.asked)
        columns += ", bit_send(b.code), f.categories, f.variant_groups, o.categories, o.variant_groups"
        joins = (
            f" JOIN {_TABLE} b ON b.version_id = {int(scope.version.pk)} AND b.image_id = p.image_id"
            f" LEFT JOIN LATERAL ({facts.of('= p.product_id')}) f ON true CROSS JOIN own o"
        )
        final += facts.parameters
        own = f", own AS MATERIALIZED ({facts.of('= ANY(%s)')})"
        own_parameters = [*facts.parameters, prepared_keys(scope.asked)]
    else:
        own, own_parameters = "", []
    sql = f"""
        WITH query AS MATERIALIZED (
            SELECT row_number() OVER () AS n, part, vector, code FROM ({query.sql}) asked
        ),
        nearest AS MATERIALIZED ({nearest}),
        compared AS (
            SELECT q.part, e.product_id, e.image_id, 1 - (e.vector <=> q.vector) AS similarity FROM {source}
        ),
        parts AS (
            SELECT product_id, part, max(similarity) AS similarity,
                   (array_agg(image_id ORDER BY similarity DESC, image_id))[1] AS image_id
            FROM compared GROUP BY product_id, part
        ),
        products AS (
            SELECT product_id, avg(similarity) AS similarity,
                   (array_agg(image_id ORDER BY similarity DESC, image_id))[1] AS image_id, {kind} AS kind
            FROM parts GROUP BY product_id
        ),
        placed AS MATERIALIZED (
            SELECT * FROM (
                SELECT *, row_number() OVER (PARTITION BY kind ORDER BY similarity DESC, product_id) AS place
                FROM products
            ) numbered WHERE kind = 2 OR place <= %s
        ){own}
        SELECT {columns} FROM placed p{joins} ORDER BY p.similarity DESC, p.product_id"""
    using = router.db_for_read(Embedding)
    with scan_settings(path, candidates, using), connections[using].cursor() as cursor:
        cursor.execute(sql, [*parameters, *own_parameters, *final])
        rows = cursor.fetchall()
    if not rows:
        return _Found()
    product_key = Embedding._meta.get_field("product_id")
    image_key = Embedding._meta.get_field("image_id")
    found_candidates = [
        Candidate(
            product_key.to_python(row[0]),
            float(row[1]),
            image_key.to_python(row[2]),
            # Four bytes with the number of bits come first.
            *((bytes(row[6])[4:], frozenset(row[7] or ()), frozenset(row[8] or ())) if ranked else ()),
        )
        for row in rows
    ]
    own_facts = (frozenset(rows[0][9] or ()), frozenset(rows[0][10] or ())) if ranked else ()
    return _Found(
        found_candidates,
        *own_facts,
        nearest=rows[0][4],
        asked_for=0 if path is Path.EXACT else rows[0][5],
        full=max(sum(row[3] == 0 for row in rows), sum(row[3] == 1 for row in rows)) >= pool,
    )


@dataclass(frozen=True)
class _Facts:
    sql: str
    parameters: tuple

    def of(self, condition: str) -> str:
        """SQL of one row (categories, variant_groups) about the products whose key meets the condition."""
        gathered = (
            f"array_agg(DISTINCT {name}) FILTER (WHERE {name} <> '') AS {alias}"
            for name, alias in (("category", "categories"), ("variant_group", "variant_groups"))
        )
        return f"SELECT {', '.join(gathered)} FROM ({self.sql}) x(key, category, variant_group) WHERE key {condition}"


def _facts(asked: Sequence[Any]) -> _Facts:
    text = models.TextField()
    values = {}
    for name in ("category", "variant_group"):
        path = setting_path(name)
        values[f"shop_similarity_{name}"] = Cast(F(path.path) if path else models.Value(None, text), text)
    products = get_catalogue().all_products().order_by().annotate(**values).values_list("pk", *values)
    return _Facts(*products.query.sql_with_params())
