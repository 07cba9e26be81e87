"""Which way a search takes, what the choice costs, and what one request may cost at most."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Product
from shop_similarity.embedding.index import build_index
from shop_similarity.models import ModelVersion
from shop_similarity.search import Path, Query, SearchOptions, candidates, find_matches, paths, similar_products
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.shop_similarity.shops import PATHS
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_kept_paths():
    paths.forget_paths()


@pytest.fixture
def by_similarity(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY": None, "DIVERSITY": 0.0, "CANDIDATES": 10}


def _shop(products: int, vectors: np.ndarray | None = None) -> list[Product]:
    made = [make_product() for _ in range(products)]
    vectors = random_vectors(products, clusters=3) if vectors is None else vectors
    store_vectors(make_version(), make_photos_without_files(made), vectors)
    return made


@contextmanager
def _statements(what: str) -> Iterator[list[str]]:
    """The statements that have this text in them."""
    found: list[str] = []
    with CaptureQueriesContext(connection) as queries:
        yield found
    found += [query["sql"] for query in queries if what in query["sql"]]


def _search(product: Product, page: int = 1, **values) -> list[Product]:
    return similar_products(product, options=SearchOptions(limit=4, offset=4 * (page - 1)), **values)


def test_photos_are_counted_once_for_what_was_published_until_now():
    made = _shop(5)

    def published() -> list[Product]:
        return similar_products(made[0], 3, among=Product.objects.filter(created_at__lte=timezone.now()))

    assert len(published()) == 3
    with _statements("EXPLAIN") as estimated, _statements("counted") as counted:
        assert len(published()) == 3
    assert estimated == counted == []
    with _statements("counted") as counted:
        similar_products(made[0], 3, among=Product.objects.filter(created_at__lte=timezone.now() - timedelta(days=1)))
    assert counted


def test_nothing_is_counted_where_the_planner_knows_enough(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS["index"]}
    made = _shop(5)
    similar_products(made[0], 3, among=Product.objects.filter(stock__lt=1))
    # A bound that no search had before: a public form may ask for any number of them.
    with _statements("EXPLAIN") as estimated, _statements("counted") as counted:
        assert len(similar_products(made[0], 3, among=Product.objects.filter(stock__lt=2))) == 3
    assert len(estimated) >= 1 and counted == []


def test_an_estimate_that_is_too_low_is_found_out(settings, monkeypatch):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "EXACT_ROWS": 2, "INDEX_ROWS": 4}
    made = _shop(8)
    monkeypatch.setattr(paths, "_estimate", lambda rows: 1)
    similar_products(made[0], 3)
    paths._reaches.clear()
    with _statements("compared AS") as searched:
        similar_products(made[0], 3)
    assert "ORDER BY e.code <~> q.code LIMIT" in searched[0]


def test_pages_further_down_stay_on_the_index(settings, by_similarity):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "EXACT_ROWS": 10, "INDEX_ROWS": 50}
    made = _shop(120)
    with _statements("compared AS") as searched:
        found = _search(made[0], page=10)
    assert len(found) == 4 and len(searched) == 2
    assert all("ORDER BY e.code <~> q.code LIMIT" in statement for statement in searched)


def test_pages_on_the_index_neither_repeat_nor_lose_a_product(settings, by_similarity):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "EXACT_ROWS": 10, "INDEX_ROWS": 50}
    made = _shop(130)
    found = [product.pk for page in range(1, 33) for product in _search(made[0], page)]
    assert len(found) == len(set(found)) == 128


def test_a_page_that_variants_leave_unfilled_has_a_bound(settings, by_similarity, monkeypatch):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS["index"]}
    same = np.repeat(random_vectors(1), 150, axis=0)
    made = _shop(150, same)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE shop_similarity_embedding, catalog_product")
    monkeypatch.setattr(candidates, "_MOST_COMPARED", 100)
    with _statements("compared AS") as searched:
        # All look the same, so one of them is shown.
        assert len(_search(made[0])) == 1
    assert len(searched) == 2
    assert not any(
        "e.vector <=> " in statement.split("compared AS")[0] or "+ 0 LIMIT" in statement for statement in searched
    )


def test_a_filter_that_nothing_near_passes_still_finds_what_there_is(settings, by_similarity, monkeypatch):
    """The index gives up behind a filter that none of those it looked at passes: then the codes are scanned."""
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS["index"]}
    made = _shop(6)
    sent = candidates._run

    def giving_up(statement, size):
        return candidates._Level(has_all=False) if statement.path is Path.INDEX else sent(statement, size)

    monkeypatch.setattr(candidates, "_run", giving_up)
    assert len(similar_products(made[0], 3, among=Product.objects.filter(pk__in=[p.pk for p in made[2:]]))) == 3


def test_the_exact_path_reads_no_more_than_the_plain_scan(settings, by_similarity):
    made = [make_product() for _ in range(30)]
    store_vectors(make_version(), make_photos_without_files(made, 10), random_vectors(300))
    version = ModelVersion.objects.active()
    query = Query.of_product(version, made[0], photos=1)
    with _statements("compared AS") as searched:
        found = find_matches(version, query, limit=10, among=None, exclude=[made[0].pk], path=Path.EXACT)
    assert len(found) == 10
    plain = (
        "SELECT product_id FROM shop_similarity_embedding WHERE version_id = %s ORDER BY vector <=> "
        "(SELECT subvector(vector, 1, 4096) FROM shop_similarity_embedding ORDER BY id LIMIT 1) LIMIT 10"
    )
    assert _pages_read(searched[0]) < 1.5 * _pages_read(plain % version.pk)


@pytest.mark.django_db(transaction=True)
def test_the_index_is_asked_by_one_statement_that_leaves_no_setting_behind(settings, by_similarity):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS["index"]}
    made = _shop(40)
    build_index(ModelVersion.objects.active().pk)
    version = ModelVersion.objects.active()
    query = Query.of_product(version, made[0], photos=1)
    find_matches(version, query, limit=5, among=None)
    with CaptureQueriesContext(connection) as queries:
        assert len(find_matches(version, query, limit=5, among=None)) == 5
    (statement,) = [entry["sql"] for entry in queries]
    assert "set_config('hnsw.ef_search', '44', true)" in statement
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan')")
        assert cursor.fetchone() == ("40", "off")


@pytest.mark.parametrize("path", [Path.EXACT, Path.CODES, Path.INDEX])
def test_what_a_scan_names_is_not_looked_up_again(by_similarity, path):
    made = _shop(30)
    version = ModelVersion.objects.active()
    with _statements("compared AS") as searched:
        find_matches(version, Query.of_product(version, made[0], photos=1), limit=2, among=None, path=path)
    (statement,) = searched
    assert "shop_similarity_embedding" not in statement.split("compared AS")[1].split("best AS")[0]


@pytest.mark.parametrize("others", [0, 200])
def test_codes_behind_a_filter_are_looked_up_by_one_list_of_its_products(settings, by_similarity, others):
    """A search of the index over products for each takes half as long again, and twice behind a fifth of a catalogue.

    Where few of very many products have photos, the list would be what takes long.
    """
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "EXACT_ROWS": 2, "INDEX_ROWS": 50}
    made = _shop(30)
    Product.objects.bulk_create(
        Product(name=str(number), slug=f"other-{number}", sku=f"other-{number}", category=made[0].category, price=1)
        for number in range(others)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE shop_similarity_embedding, catalog_product")
    version = ModelVersion.objects.active()
    query = Query.of_product(version, made[0], photos=1)
    among = Product.objects.filter(pk__gt=made[9].pk)
    found = {}
    for path in (Path.EXACT, Path.CODES, Path.INDEX):
        with _statements("compared AS") as searched:
            found[path] = find_matches(version, query, limit=2, among=among, path=path)
        assert ("e.product_id = ANY(ARRAY(SELECT" in searched[0]) == (path is Path.CODES and not others)
    assert {match.product_id for match in found[Path.CODES]} <= {product.pk for product in made[10:]}
    assert found[Path.EXACT] == found[Path.CODES] == found[Path.INDEX]


def _pages_read(statement: str) -> int:
    """How often the server looks at a page of 8 KiB, in memory or not."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        ((plan,),) = cursor.fetchall()
    root = (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]
    return root["Shared Hit Blocks"] + root["Shared Read Blocks"]


@pytest.mark.parametrize(
    ("rows", "indexed", "path"),
    [
        (200, 0, Path.EXACT),
        (20_000, 0, Path.CODES),
        (20_001, 100_000, Path.INDEX),
        # Of a million the index would pass four thousand by to find a hundred of these.
        (27_000, 1_000_000, Path.CODES),
        (28_000, 1_000_000, Path.INDEX),
        (60_000, 100_000_000, Path.INDEX),
        (1_000_000, 1_000_000, Path.INDEX),
    ],
)
def test_the_cheaper_path_is_taken(rows, indexed, path):
    assert paths.Reach(rows, indexed).path is path


@pytest.mark.parametrize(
    ("rows", "indexed", "path", "least", "candidates"),
    [
        (1_000_000, 1_000_000, Path.INDEX, 40, 200),
        (1_000_000, 1_000_000, Path.INDEX, 400, 400),
        (500_000, 1_000_000, Path.INDEX, 40, 200),
        # So that the index passes two thousand by, whatever the filter admits, until a half are left.
        (80_000, 1_000_000, Path.INDEX, 40, 160),
        (50_000, 1_000_000, Path.INDEX, 128, 100),
        (25_000, 1_000_000, Path.INDEX, 400, 200),
        (50_000, 1_000_000, Path.CODES, 40, 200),
        (25_000, 100_000, Path.INDEX, 40, 200),
        (400, 0, Path.EXACT, 40, 200),
    ],
)
def test_behind_a_filter_the_index_is_asked_for_fewer(rows, indexed, path, least, candidates):
    assert paths.Reach(rows, indexed).candidates(path, least) == candidates


def test_few_candidates_are_never_none(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CANDIDATES": 10}
    assert paths.Reach(50_000, 1_000_000).candidates(Path.INDEX, 4) == 10


def test_the_index_looks_wider_in_a_larger_graph():
    looked = [paths.searched_among(200, indexed) for indexed in (0, 100_000, 1_000_000, 10_000_000)]
    assert looked[0] == looked[1] < looked[2] < looked[3]
    # More than the candidates, for one photo too few would begin a second scan; no more than pgvector takes.
    assert looked[0] > 200 and paths.searched_among(900, 10**7) == 1_000


@pytest.mark.django_db(transaction=True)
def test_the_size_of_the_index_is_known_without_counting():
    _shop(40)
    version = ModelVersion.objects.active()
    assert paths._in_index(version) == 0
    build_index(version.pk)
    paths.forget_paths()
    assert paths._in_index(version) == 40
