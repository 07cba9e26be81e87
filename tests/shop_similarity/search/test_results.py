"""Search against brute force over the same vectors, in a real Postgres."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Product
from shop_similarity import search
from shop_similarity.embedding.index import build_index, drop_index, index_state
from shop_similarity.models import Embedding
from shop_similarity.search import Path, paths, search_by_vector, similar_products
from tests.shop_similarity.factories import (
    make_category,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.vectors import random_vectors


@pytest.fixture(autouse=True)
def _no_kept_paths():
    paths.forget_paths()


@pytest.fixture
def no_preference(settings):
    """Ranked by similarity alone."""
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY": None, "DIVERSITY": 0.0}


def _catalogue(products: int, per_product: int = 1, clusters: int = 0, seed: int = 0):
    category = make_category()
    made = Product.objects.bulk_create(
        [
            Product(name=f"P{number}", slug=f"p{number}", sku=f"P{number}", category=category)
            for number in range(products)
        ]
    )
    photos = make_photos_without_files(made, per_product)
    vectors = random_vectors(len(photos), clusters=clusters, seed=seed)
    version = make_version()
    store_vectors(version, photos, vectors)
    return made, photos, vectors.astype(np.float16).astype(np.float32), version


def _brute_force(query: np.ndarray, photos, vectors: np.ndarray, allowed, limit: int) -> list[tuple[int, float]]:
    """Best photo of each allowed product by the best of its cosines with the query's rows."""
    similarities = (vectors @ np.atleast_2d(query).T).max(axis=1)
    best: dict[int, float] = {}
    for photo, similarity in zip(photos, similarities, strict=True):
        if photo.product_id in allowed:
            best[photo.product_id] = max(best.get(photo.product_id, -2), float(similarity))
    return sorted(best.items(), key=lambda item: -item[1])[:limit]


@pytest.mark.django_db
@pytest.mark.parametrize("path", [Path.EXACT, Path.CODES])
def test_finds_what_brute_force_finds(path, no_preference):
    made, photos, vectors, version = _catalogue(120, per_product=2, clusters=12)
    query = random_vectors(1, seed=9)[0]
    expected = _brute_force(query, photos, vectors, {p.pk for p in made}, 10)
    found = search.find_matches(version, search.Query.of_vector(query), limit=10, among=None, path=path)
    assert [match.product_id for match in found] == [pk for pk, _ in expected]
    assert [match.similarity for match in found] == pytest.approx([s for _, s in expected], abs=2e-3)


@pytest.mark.django_db
def test_best_pair_of_photos_counts_and_the_product_itself_is_left_out(no_preference):
    made, photos, vectors, _version = _catalogue(40, per_product=3)
    own = [i for i, photo in enumerate(photos) if photo.product_id == made[0].pk]
    weights = np.array([1, 0.8, 0.8])[:, None]
    expected = _brute_force(weights * vectors[own], photos, vectors, {p.pk for p in made[1:]}, 5)
    found = similar_products(made[0], 5)
    assert [product.pk for product in found] == [pk for pk, _ in expected]
    assert found[0].similarity == pytest.approx(expected[0][1], abs=2e-3)
    by_photo = {photo.pk: photo for photo in photos}
    assert all(by_photo[product.similar_image_id].product_id == product.pk for product in found)


@pytest.mark.django_db
@pytest.mark.parametrize("weight", [0.8, 0.0, 1.0])
@pytest.mark.parametrize("path", [path for path in Path if path is not Path.ENGINE])
def test_first_photo_says_more_than_the_others(no_preference, settings, path, weight):
    rows = {Path.EXACT: {}, Path.CODES: {"EXACT_ROWS": 0}, Path.INDEX: {"EXACT_ROWS": 0, "INDEX_ROWS": 0}}[path]
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **rows, "OTHER_PHOTOS_WEIGHT": weight}
    settings.SHOP_SIMILARITY["DUPLICATE_SIMILARITY"] = 2.0
    blue_and_red, blue, red = [make_product(name) for name in ("Blue, red too", "Blue", "Red")]
    photos = make_photos_without_files([blue_and_red], 2) + make_photos_without_files([blue, red])
    # The blue ones are a little less alike than the red ones.
    axes = np.eye(4096, dtype=np.float32)[:4]
    store_vectors(make_version(), photos, np.stack([axes[0], axes[1], 3 * axes[0] + axes[2], 4 * axes[1] + axes[3]]))
    found = similar_products(blue_and_red, 2)
    assert [product.pk for product in found] == [p.pk for p in ((red, blue) if weight == 1 else (blue, red))]
    assert found[weight == 1].similarity == pytest.approx(3 / 10**0.5, abs=2e-3)
    assert found[weight != 1].similarity == pytest.approx(weight * 4 / 17**0.5, abs=2e-3)
    # While the one in front waits for its vector, the next one stands for it.
    Embedding.objects.filter(image_id=photos[0].pk).delete()
    assert similar_products(blue_and_red, 1)[0].similarity == pytest.approx(4 / 17**0.5, abs=2e-3)


@pytest.mark.django_db
def test_only_products_in_among_and_always_as_many_as_there_are(no_preference):
    made, photos, vectors, _version = _catalogue(150, clusters=10)
    allowed = {product.pk for product in made[::15]} - {made[0].pk}
    among = Product.objects.filter(pk__in=allowed)
    found = similar_products(made[0], 50, among=among)
    expected = _brute_force(vectors[0], photos, vectors, allowed, 50)
    assert [product.pk for product in found] == [pk for pk, _ in expected]
    assert similar_products(made[0], 5, among=Product.objects.none()) == []
    sliced = similar_products(made[0], 50, among=Product.objects.order_by("pk")[:7])
    assert {product.pk for product in sliced} == {product.pk for product in made[1:7]}


@pytest.mark.django_db
def test_unpublished_products_are_not_found():
    made, *_ = _catalogue(6)
    Product.objects.filter(pk=made[1].pk).update(is_published=False)
    assert {product.pk for product in similar_products(made[0], 10)} == {product.pk for product in made[2:]}


@pytest.mark.django_db
def test_many_photos_of_one_product_do_not_hide_the_others(settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "CATEGORY": None,
        "CANDIDATES": 10,
        "EXACT_ROWS": 0,
        "INDEX_ROWS": 20_000,
    }
    crowd, *others = [make_product() for _ in range(7)]
    query = random_vectors(1, seed=3)[0]
    photos = make_photos_without_files([crowd], 60) + make_photos_without_files(others)
    near = query + 0.001 * random_vectors(60)
    far = query + 3 * random_vectors(6, seed=4)
    vectors = np.concatenate([near, far])
    version = make_version()
    store_vectors(version, photos, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    found = search_by_vector(query, 7)
    assert len(found) == 7
    assert found[0].pk == crowd.pk


@pytest.mark.django_db
def test_same_category_is_preferred_where_similarity_is_close(settings):
    # The two nearest are nearly one and the same; here both shall stand.
    alone = {"DIVERSITY": 0.0, "DUPLICATE_SIMILARITY": 2.0}
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY_BOOST": 0.1, **alone}
    shirts, mugs = make_category("Shirts"), make_category("Mugs")
    asked = make_product("asked", shirts)
    close_mug, shirt, far_shirt = make_product("mug", mugs), make_product("shirt", shirts), make_product("far", shirts)
    base, other = np.linalg.qr(random_vectors(2).T)[0].T.astype(np.float32)
    cosines = [1.0, 0.9, 0.85, 0.5]
    vectors = np.stack([c * base + np.sqrt(1 - c * c) * other for c in cosines]).astype(np.float32)
    store_vectors(make_version(), make_photos_without_files([asked, close_mug, shirt, far_shirt]), vectors)
    found = similar_products(asked, 3)
    assert [product.name for product in found] == ["shirt", "mug", "far"]
    # The similarity that is told stays the cosine.
    assert [product.similarity for product in found] == pytest.approx([0.85, 0.9, 0.5], abs=2e-3)


@pytest.mark.django_db
def test_another_version_is_never_mixed_in(no_preference):
    made, photos, _vectors, version = _catalogue(10)
    other = make_version("other", state="candidate")
    store_vectors(other, photos, random_vectors(10, seed=5))
    first = similar_products(made[0], 9)
    second = similar_products(made[0], 9, version=other)
    assert [p.similarity for p in first] != [p.similarity for p in second]
    assert [p.pk for p in similar_products(made[0], 9, version=version)] == [p.pk for p in first]


@pytest.mark.django_db
def test_nothing_to_compare_with_is_no_error():
    product = make_product()
    assert similar_products(product) == []
    make_version()
    assert similar_products(product) == []
    assert similar_products(product, 0) == []
    assert similar_products(Product(name="unsaved"), 3) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    "vector", [np.ones(7), np.zeros(4096), np.full(4096, np.nan)], ids=["length", "zero", "not a number"]
)
def test_vectors_that_nothing_can_be_similar_to(vector):
    make_version()
    with pytest.raises(ValueError, match=r"vector"):
        search_by_vector(vector)


@pytest.mark.django_db
def test_wrong_arguments_are_named():
    make_version()
    with pytest.raises(ValueError, match="limit"):
        search_by_vector(np.ones(4096), -1)
    with pytest.raises(ValueError, match=r"catalog\.Category"):
        search_by_vector(np.ones(4096), 3, among=make_category().__class__.objects.all())


@pytest.mark.django_db
def test_number_of_queries_does_not_grow():
    made, *_ = _catalogue(60, per_product=3)
    counts = []
    for limit in (2, 20, 50):
        paths.forget_paths()
        with CaptureQueriesContext(
            connection,
        ) as queries:
            for product in similar_products(made[0], limit):
                assert product.photos.all()[0].file.name
                assert product.category.name
        counts.append(len(queries))
    assert counts[0] == counts[1] == counts[2] <= 6


@pytest.mark.django_db
def test_photos_are_not_counted_again_for_every_product():
    made, *_ = _catalogue(10)
    similar_products(made[0], 3)
    with CaptureQueriesContext(connection) as queries:
        assert len(similar_products(made[1], 3)) == 3
    assert not any("counted" in query["sql"] for query in queries)


@pytest.mark.django_db(transaction=True)
def test_index_is_used_and_finds_what_brute_force_finds(settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "CATEGORY": None,
        "DIVERSITY": 0.0,
        "EXACT_ROWS": 10,
        "INDEX_ROWS": 100,
        "CANDIDATES": 100,
    }
    made, photos, vectors, version = _catalogue(1_500, clusters=40)
    assert index_state(version.pk).state == "absent"
    assert build_index(version.pk) is True
    assert build_index(version.pk) is False
    assert index_state(version.pk).state == "ready"
    with CaptureQueriesContext(connection) as queries:
        found = similar_products(made[3], 10)
    expected = _brute_force(vectors[3], photos, vectors, {p.pk for p in made} - {made[3].pk}, 10)
    assert len({p.pk for p in found} & {pk for pk, _ in expected}) >= 9
    searched = next(query["sql"] for query in queries if "compared AS" in query["sql"])
    with connection.cursor() as cursor:
        # Small tables are read whole; what has to hold is that the statement can use the index at all.
        cursor.execute("SET enable_seqscan = off")
        cursor.execute("SET enable_sort = off")
        cursor.execute(f"EXPLAIN {searched}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("RESET ALL")
    assert index_state(version.pk).name in plan
    drop_index(version.pk)
    assert index_state(version.pk).state == "absent"


@pytest.mark.django_db(transaction=True)
def test_narrow_filter_behind_the_index_returns_all_that_was_asked_for(settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "CATEGORY": None,
        "EXACT_ROWS": 0,
        "INDEX_ROWS": 0,
        "CANDIDATES": 10,
    }
    made, photos, vectors, version = _catalogue(1_000, clusters=20)
    build_index(version.pk)
    # The least similar ones: an index without patience would never reach them.
    order = np.argsort(vectors @ vectors[0])
    allowed = {photos[i].product_id for i in order[:12]}
    found = similar_products(made[0], 12, among=Product.objects.filter(pk__in=allowed))
    assert {product.pk for product in found} == allowed


@pytest.mark.django_db(transaction=True)
def test_index_that_a_crash_left_half_built_is_built_anew():
    _made, _photos, _vectors, version = _catalogue(30)
    name = index_state(version.pk).name
    build_index(version.pk)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [name])
    assert index_state(version.pk).state == "invalid"
    assert build_index(version.pk) is True
    assert index_state(version.pk).state == "ready"
