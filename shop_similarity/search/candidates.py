"""Candidates of a search: one SQL statement that finds products, compares them exactly and says what ranking needs.

Candidates come in pools. The first is as large as nearly every page needs; where pages further down, variants that were
left out or a narrow filter ask for more, the next one looks three times as far, on the same path, up to a bound of what
one request may cost. A pool holds nothing that an earlier one held and depends on nothing but the query, so a list that
is made pool after pool can be paged through.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import models
from django.db.models import QuerySet
from django.db.models.functions import Cast

from .. import database, meters
from ..catalogue import get_catalogue
from ..catalogue.category_tree import category_tree, closeness, split_trail
from ..catalogue.field_paths import setting_value
from ..catalogue.variant_groups import variant_group
from ..embedding.index import index_state
from ..engine_errors import EngineDown
from ..models import EMBEDDING_DIM, Embedding, ModelVersion
from .engine_candidates import ORDER, Named
from .paths import Path, Reach, choose_path, embeddings_among, keys_sql, prepared_keys, scan_settings
from .queries import Query
from .sql import Sql

_POOL = 100
_WIDER = 3
# Where so many products are all variants of a few, a shorter list is better than a page that takes seconds.
_MOST = 6_400
# No request compares more photos than these in one statement: some tenths of a second, in a shop of any size.
_MOST_COMPARED = 30_000
# So many codes are scanned for each photo where the engine beside Postgres does not answer: as many as behind a filter.
_MOST_SCANNED_INSTEAD = 50_000
# Of a boosted category so many photos are looked at where there is no index to walk through.
_MOST_BOOSTED = 20_000


@dataclass(frozen=True)
class Match:
    """A product that looks alike, by key.

    Attributes:
        product_id: its primary key.
        similarity: cosine of the two most similar photos, -1 to 1, times ``OTHER_PHOTOS_WEIGHT`` if it is not the
            first photo of what was asked with; to several products the mean of those.
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
        categories: values of the ``CATEGORY`` setting, as text, and those above them in a tree.
        closeness: how near they lie to the categories of what was asked with, 0 to 1.
        variant_groups: values of the ``VARIANT_GROUP`` setting, as text.
    """

    code: bytes = b""
    categories: frozenset[str] = frozenset()
    closeness: float = 0.0
    variant_groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Pool:
    """Some candidates, most similar first, and what the products that were asked with have themselves."""

    candidates: Sequence[Candidate] = ()
    own_variant_groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scope:
    """Where candidates are looked for.

    Attributes:
        version: the model version whose embeddings are searched.
        query: the vectors to compare with.
        among: queryset of the products that may be found, None for all.
        exclude: keys of products to leave out.
        hidden: querysets of more products to leave out.
        query_keys: keys of the products that the query is made of.
        candidate_keys: keys of products that are candidates however unlike they are, if ``among`` has them.
        boosted: queryset of products of which the nearest are candidates, however many others are nearer.
    """

    version: ModelVersion
    query: Query
    among: QuerySet | None
    exclude: Collection[Any] = ()
    hidden: Sequence[QuerySet] = ()
    query_keys: Sequence[Any] = ()
    candidate_keys: Sequence[Any] = ()
    boosted: QuerySet | None = None


def pools(scope: Scope, limit: int) -> Iterator[Pool]:
    """Candidates, pool after pool; the same pools for all limits up to an eighth of ``CANDIDATES`` and up to 32."""
    # Powers of two, so that pages of nearly the same length are cut from the same list.
    rounded = 1 << max(limit - 1, 1).bit_length()
    seen: set[Any] = set()
    for pool in _levels(scope, max(_POOL, 2 * rounded), 4 * rounded, ranked=True):
        fresh = [candidate for candidate in pool.candidates if candidate.product_id not in seen]
        seen.update(candidate.product_id for candidate in fresh)
        yield replace(pool, candidates=fresh)


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
        EngineDown: an engine beside Postgres names the candidates, it does not answer, and there are too many photos to
            do without.
    """
    if limit < 0:
        raise ValueError(f"limit is {limit}; it can't be negative.")
    matches: list[Match] = []
    if limit:
        scope = Scope(version, query, among, exclude)
        for pool in _levels(scope, limit, 4 * limit, path=path):
            matches = [Match(c.product_id, c.similarity, c.image_id) for c in pool.candidates]
            if len(matches) >= limit:
                break
    return matches


def _levels(scope: Scope, size: int, least: int, *, ranked: bool = False, path: Path | None = None) -> Iterator[Pool]:
    """Pools of ``size`` products and of three times as many each time.

    Args:
        scope: where.
        size: products of the first pool.
        least: photos that each vector of the query names for it at least.
        ranked: whether the ranking needs codes, categories and groups of variants.
        path: how candidates are found; chosen by the number of photos by default.
    """
    # Which few products are left out changes with every page and decides nothing.
    among = embeddings_among(scope.version, scope.among)
    if among is None:
        return
    reach = choose_path(scope.version, among, scope.among)
    path = path or reach.path
    # Of a basket each photo names a quarter of them as it is.
    candidates = reach.candidates(Path.CODES if scope.query.several else path, least)
    is_first = True
    named: Named | None = None
    is_wider = False
    while True:
        if path is Path.ENGINE:
            try:
                named = named or Named(scope.version, scope.query, reach.rows / max(reach.indexed, reach.rows, 1))
                named.ask(candidates, wider=is_wider)
            except EngineDown as error:
                path = _without_engine(scope.version, reach, error)
        level = _run(_Statement(path, scope, candidates, ranked, reach, named), size)
        if path is Path.ENGINE and named is not None and not level.has_all and named.can_widen:
            # The filter lets fewer pass than was thought.
            is_wider = True
            continue
        if path in (Path.INDEX, Path.ENGINE) and not level.has_all and (is_first or _may_scan(reach)):
            # The index gave up behind a narrow filter: what it did find need not be the nearest.
            path = Path.CODES
            candidates = max(candidates, reach.candidates(path, least))
            continue
        is_wider = False
        yield level.pool
        if not level.is_full and (not level.has_all or not level.pool.candidates):
            return
        if level.is_full and size >= _MOST:
            return
        size *= _WIDER
        candidates *= _WIDER
        is_first = False
        if candidates > _MOST_COMPARED and not _may_scan(reach):
            return


def _may_scan(reach: Reach) -> bool:
    """Whether a page further down may look at all photos: where there are no more of them than for one statement."""
    return reach.rows <= _MOST_COMPARED


def _without_engine(version: ModelVersion, reach: Reach, error: EngineDown) -> Path:
    """How Postgres finds candidates by itself; raises the error where that would hold up every page."""
    if reach.rows <= _MOST_SCANNED_INSTEAD:
        return Path.CODES
    if index_state(version.pk).state == "ready":
        return Path.INDEX
    raise error


@dataclass(frozen=True)
class _Level:
    """What one statement gave.

    Attributes:
        pool: the candidates.
        has_all: whether as many photos were named as were asked for, so that there may be more.
        is_full: whether as many products were found as were asked for.
    """

    pool: Pool = Pool()
    has_all: bool = True
    is_full: bool = False


def _run(statement: _Statement, size: int) -> _Level:
    began = time.perf_counter()
    rows = statement.sql(size).rows()
    if statement.ranked:
        # What is not ranked measures the recall, and goes ways that no shopper waits for.
        meters.count_search(statement.path.value, time.perf_counter() - began)
    if not rows:
        return _Level(has_all=False)
    product_key = Embedding._meta.get_field("product_id").target()
    image_key = Embedding._meta.get_field("image_id").target()
    first = rows[0]
    own = [split_trail(text) for text in first.own_categories or ()]
    candidates = []
    for row in rows:
        trails = [split_trail(text) for text in row.categories or ()]
        candidates.append(
            Candidate(
                product_key.to_python(row.product_id),
                float(row.similarity),
                image_key.to_python(row.image_id),
                # Four bytes with the number of bits come first.
                bytes(row.code or b"")[4:],
                frozenset(category for trail in trails for category in trail),
                closeness(own, trails),
                frozenset(row.variant_groups or ()),
            )
        )
    return _Level(
        Pool(candidates, frozenset(first.own_variant_groups or ())),
        first.nearest >= first.most_nearest,
        max(sum(row.kind == kind for row in rows) for kind in (0, 1)) >= size,
    )


_ORDERS = {
    Path.INDEX: "e.code <~> q.code",
    # The sum hides the expression from the index: behind a narrow filter it would find too little.
    Path.CODES: "(e.code <~> q.code) + 0",
    Path.EXACT: "distance",
}
_ORDERS[Path.ENGINE] = _ORDERS[Path.CODES]
# A photo `e` and how similar it is to a vector `q` of the query.
_PAIR = "q.part, e.id, e.product_id, e.image_id, (1 - (e.vector <=> q.vector)) * q.weight AS similarity"
# Of each product the photo that is most similar: to the one thing asked with, or on average to several.
_BEST = Sql(
    """best AS (
            SELECT DISTINCT ON (product_id) product_id, similarity, id
            FROM compared ORDER BY product_id, similarity DESC, image_id
        )"""
)
_BEST_OF_SEVERAL = Sql(
    """parts AS (
            SELECT product_id, part, max(similarity) AS similarity,
                   (array_agg(id ORDER BY similarity DESC, image_id))[1] AS id
            FROM compared GROUP BY product_id, part
        ),
        best AS (
            SELECT product_id, avg(similarity) AS similarity,
                   (array_agg(id ORDER BY similarity DESC, id))[1] AS id
            FROM parts GROUP BY product_id
        )"""
)


class _Statement:
    """The one statement of a search, a method for each part of it.

    Args:
        path: how candidates are found.
        scope: where.
        candidates: how many photos each vector of the query names.
        ranked: whether the ranking needs codes, categories and groups of variants.
        reach: how many photos may be found.
        named: what the engine beside Postgres has named, where it is used.
    """

    def __init__(
        self,
        path: Path,
        scope: Scope,
        candidates: int,
        ranked: bool,
        reach: Reach,
        named: Named | None = None,
    ) -> None:
        self.path, self.scope, self.ranked, self.reach = path, scope, ranked, reach
        self._named = named
        self.candidates, probes = candidates, Sql("query q")
        if scope.query.several:
            # What is a little like everything is near the mean and may be near nothing else.
            self.candidates = max(10, candidates // 4)
            probes = Sql(
                f"(SELECT n, code FROM query UNION ALL "
                f"SELECT 0, binary_quantize(avg(vector))::bit({EMBEDDING_DIM}) FROM query HAVING count(*) > 0) q"
            )
        self._keys = prepared_keys(scope.candidate_keys)
        self._boosted = None if scope.boosted is None else keys_sql(scope.boosted)
        self._pieces = {
            "table": Sql(Embedding._meta.db_table),
            "condition": self._condition(),
            "probes": probes,
            "candidates": Sql.number(self.candidates),
            "keys": self._keys,
            "boosted": self._boosted,
        }

    def sql(self, size: int) -> Sql:
        """Rows, most similar first: the ``size`` best of each kind of products, and all whose keys are given.

        A vector in the table is a pointer to its 8 KiB, which each comparison would read anew: the query's are copied
        once, by ``subvector`` with their whole length. ``compared`` stands by itself so that each cosine is computed
        once and none of the vectors is sorted along.
        """
        return Sql.of(
            """
        WITH {settings}query AS MATERIALIZED (
            SELECT row_number() OVER ({order}) AS n, part, weight, subvector(vector, 1, {dimensions}) AS vector, code
            FROM ({query}) asked{set}
        ),
        nearest AS MATERIALIZED ({nearest}),
        compared AS MATERIALIZED ({compared}),
        {best},
        placed AS MATERIALIZED (
            SELECT * FROM (
                SELECT *, row_number() OVER (PARTITION BY kind ORDER BY similarity DESC, product_id) AS place
                FROM (SELECT *, {kind} AS kind FROM best) products
            ) numbered WHERE kind = 2 OR place <= {size}
        ){own}
        SELECT p.product_id, p.similarity, b.image_id, p.kind, (SELECT count(*) FROM nearest) AS nearest,
               (SELECT count(*) FROM {probes}) * {candidates} AS most_nearest, {columns}
        FROM placed p JOIN {table} b ON b.id = p.id{joins} ORDER BY p.similarity DESC, p.product_id""",
            order=ORDER if self.path is Path.ENGINE else Sql(""),
            query=self.scope.query.sql,
            dimensions=Sql.number(EMBEDDING_DIM),
            nearest=Sql("SELECT 0 AS n, 0 AS id WHERE false") if self._compares_all else self._scan(),
            compared=self._compared(),
            best=_BEST_OF_SEVERAL if self.scope.query.several else _BEST,
            kind=self._kind(),
            size=size,
            **self._settings(),
            **self._facts(),
            **self._pieces,
        )

    def _condition(self) -> Sql:
        """Which embeddings may be found, on the alias ``e``; there are products that they may be of."""
        scope = self.scope
        is_listed = self.path is Path.CODES and self.reach.is_listed
        condition = embeddings_among(scope.version, scope.among, scope.exclude, scope.hidden, is_listed=is_listed)
        return condition or Sql("false")

    def _settings(self) -> dict[str, Sql]:
        """What the walk through the index goes by, set by the statement itself and gone with its transaction.

        The walk can't begin before, for the vectors that it begins with are not there without the settings. Set
        beforehand they would be three more ways to the server and back.
        """
        if self.path is not Path.INDEX:
            return {"settings": Sql(""), "set": Sql("")}
        values = scan_settings(self.candidates, self.reach.indexed)
        return {
            "settings": Sql.of("settings AS MATERIALIZED ({values}), ", values=values),
            "set": Sql(" CROSS JOIN settings"),
        }

    @property
    def _compares_all(self) -> bool:
        """The mean over several parts is known of a photo only when it was compared with all of them."""
        return self.path is Path.EXACT and self.scope.query.several

    def _scan(self, more: str = "") -> Sql:
        """The nearest photos of each vector, by their codes or exactly, with their similarity to it.

        What is found brings the pointer to its vector along, so that no photo is looked up a second time. Of several
        things asked with each photo is compared with all, so that only its key counts here.
        """
        is_exact, several = self.path is Path.EXACT, self.scope.query.several
        vector, lateral = "q.vector", " LATERAL"
        if is_exact and self.scope.query.is_one_vector:
            # Processes that scan together can't look into a CTE, but are told what was found in it before.
            vector, lateral = "(SELECT vector FROM query)", ""
        rows, order = f"{{table}} e WHERE {{condition}}{more}", _ORDERS[self.path]
        pieces = dict(self._pieces)
        if self.path is Path.ENGINE and self._named is not None and not more:
            rows = "unnest({named}) WITH ORDINALITY k(id, place) JOIN {table} e ON e.id = k.id WHERE {condition}"
            order, pieces["named"] = "k.place", self._named.keys_of("q.n")
        elif self.path is Path.ENGINE:
            rows = f"(SELECT e.* FROM {{table}} e WHERE {{condition}}{more} LIMIT {_MOST_BOOSTED}) e"
        found = f"e.vector <=> {vector} AS distance" if is_exact else "e.vector"
        distance = "c.distance" if is_exact else "c.vector <=> q.vector"
        similar = f"q.part, c.id, c.product_id, c.image_id, (1 - ({distance})) * q.weight AS similarity"
        return Sql.of(
            f"SELECT {'q.n, c.id' if several else similar} FROM {{probes}} CROSS JOIN{lateral} ("
            f"SELECT e.id, e.product_id, e.image_id, {found} FROM {rows} ORDER BY {order} LIMIT {{candidates}}) c",
            **pieces,
        )

    def _compared(self) -> Sql:
        """Photos with their similarity to each part of the query; one may be there twice."""
        several = self.scope.query.several
        if self._compares_all:
            return Sql.of(f"SELECT {_PAIR} FROM query q CROSS JOIN {{table}} e WHERE {{condition}}", **self._pieces)
        scans = [Sql("SELECT * FROM nearest")]
        if self._boosted is not None:
            scans.append(self._scan(" AND e.product_id IN ({boosted})"))
        if self._keys:
            scans.append(
                Sql.of(
                    f"SELECT {'q.n, e.id' if several else _PAIR} FROM query q CROSS JOIN {{table}} e "
                    "WHERE {condition} AND e.product_id = ANY({keys})",
                    **self._pieces,
                )
            )
        if not several:
            return Sql.join(" UNION ALL ", scans)
        return Sql.of(
            # What one product named is compared with all of them. Whatever stands in a CTE the planner takes for a row
            # or two; behind OFFSET it counts one for each photo.
            f"SELECT {_PAIR} FROM (SELECT DISTINCT id FROM ({{photos}}) every) c "
            "CROSS JOIN LATERAL (SELECT * FROM query OFFSET 0) q JOIN {table} e ON e.id = c.id",
            photos=Sql.join(" UNION ALL ", scans),
            **self._pieces,
        )

    def _kind(self) -> Sql:
        """2 for a product whose key is given, 1 for one of those that are boosted, 0 for the others."""
        keys = " WHEN product_id = ANY({keys}) THEN 2" if self._keys else ""
        # Each of the few is looked up by its key. IN would hold all that are boosted, half of a catalogue perhaps.
        is_boosted = "EXISTS (SELECT 1 FROM ({boosted}) b (key) WHERE b.key = product_id OFFSET 0)"
        boosted = f" WHEN {is_boosted} THEN 1" if self._boosted is not None else ""
        return Sql.of(f"CASE{keys}{boosted} ELSE 0 END", **self._pieces) if keys or boosted else Sql("0")

    def _facts(self) -> dict[str, Sql]:
        """What the ranking asks about the products: one more CTE, the joins and the columns."""
        if not self.ranked:
            names = ("code", "categories", "variant_groups", "own_categories", "own_variant_groups")
            return {"own": Sql(""), "joins": Sql(""), "columns": Sql(", ".join(f"NULL AS {name}" for name in names))}
        own_keys = prepared_keys(self.scope.query_keys)
        wanted = Sql("SELECT product_id AS key FROM placed")
        if own_keys:
            # A list of texts has no type by itself.
            key = Embedding._meta.get_field("product_id").db_type(database.connection(database.read_alias()))
            wanted = Sql.of(f"{{wanted}} UNION SELECT unnest({{keys}}::{key}[])", wanted=wanted, keys=own_keys)
        return {
            "own": Sql.of(
                ", wanted AS MATERIALIZED ({wanted}), {facts}, own AS MATERIALIZED ("
                "SELECT {columns} FROM given WHERE key = ANY({keys})), "
                "facts AS MATERIALIZED (SELECT key, {columns} FROM given GROUP BY key)",
                wanted=wanted,
                facts=_facts_of_wanted(),
                columns=_FACTS,
                keys=own_keys,
            ),
            "joins": Sql(" LEFT JOIN facts f ON f.key = p.product_id CROSS JOIN own o"),
            "columns": Sql(
                "bit_send(b.code) AS code, f.categories, f.variant_groups, "
                "o.categories AS own_categories, o.variant_groups AS own_variant_groups"
            ),
        }


_FACTS = Sql(
    "array_agg(DISTINCT category) FILTER (WHERE category <> '') AS categories, "
    "array_agg(DISTINCT variant_group) FILTER (WHERE variant_group <> '') AS variant_groups"
)


def _facts_of_wanted() -> Sql:
    """The CTE ``given`` with rows (key, category with those above it, variant_group) about the products ``wanted``.

    A product has a row for each pair of its values. The way up a tree is gone once for each category, not for each
    product in it.
    """
    text = models.TextField()
    category, group, tree = setting_value("category"), variant_group(), category_tree()
    nothing = models.Value(None, text)
    values = {
        "shop_similarity_category": nothing if category is None else category.expression,
        "shop_similarity_variant_group": Cast(nothing if group is None else group, text),
    }
    if tree is None:
        values["shop_similarity_category"] = Cast(values["shop_similarity_category"], text)
    products = get_catalogue().all_products().order_by().annotate(**values).values_list("pk", *values)
    given = Sql.of(
        "SELECT x.* FROM wanted w JOIN ({products}) x(key, category, variant_group) ON x.key = w.key",
        products=Sql.of_queryset(products),
    )
    if tree is None:
        return Sql.of("given AS MATERIALIZED ({given})", given=given)
    trails = tree.nodes().annotate(shop_similarity_trail=tree.trail(models.F(tree.field.attname)))
    return Sql.of(
        "valued AS MATERIALIZED ({given}), trails AS MATERIALIZED (SELECT value, trail FROM ({trails}) t(value, trail) "
        "WHERE value IN (SELECT category FROM valued)), given AS MATERIALIZED (SELECT v.key, t.trail AS category, "
        "v.variant_group FROM valued v LEFT JOIN trails t ON t.value = v.category)",
        given=given,
        trails=Sql.of_queryset(trails.values_list(tree.field.attname, "shop_similarity_trail")),
    )
