"""No product twice, and no list of ten times the same shirt."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Product
from shop_similarity.search import SearchOptions, paths, similar_products
from shop_similarity.search.diversity import codes_from, likeness, select
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.shop_similarity.shops import PATHS, direction, make_shop, mixed, names


@pytest.fixture(autouse=True)
def _no_kept_paths():
    paths.forget_paths()


def _codes(vectors: np.ndarray) -> np.ndarray:
    return codes_from([row.tobytes() for row in np.packbits(np.asarray(vectors) > 0, axis=1)])


def test_likeness_of_codes_is_nearly_the_cosine():
    wanted = np.array([1.0, 0.97, 0.8, 0.5, 0.0, -0.6])
    vectors = np.stack([mixed({"a": cosine}, f"v{cosine}") for cosine in wanted])
    codes = _codes(np.concatenate([direction("a")[None], vectors]))
    found = likeness(codes[0], codes[1:])
    assert found == pytest.approx(wanted, abs=0.06)
    assert found[:2] == pytest.approx(wanted[:2], abs=0.012)


def test_near_copies_and_variants_go_and_the_best_of_them_stays():
    vectors = [direction("a"), mixed({"a": 0.99}, "copy"), mixed({"a": 0.9}, "other"), direction("b"), direction("c")]
    codes, no_groups, scores = _codes(np.stack(vectors)), [frozenset()] * 5, np.linspace(1, 0.5, 5)
    assert select(scores, codes, no_groups, count=9, threshold=0.97) == [0, 2, 3, 4]
    assert select(scores, codes, no_groups, count=2, threshold=0.97) == [0, 2]
    assert select(scores, codes, no_groups, count=9, threshold=1.01) == [0, 1, 2, 3, 4]
    groups = [frozenset({"1"}), frozenset(), frozenset({"3"}), frozenset({"1"}), frozenset({"2", "3"})]
    assert select(scores, codes, groups, count=9) == [0, 1, 2]
    assert select(scores, codes, groups, count=9, threshold=0.97, taken_groups={"2"}) == [0, 2]
    before = _codes(direction("b")[None])
    assert select(scores, codes, no_groups, count=9, threshold=0.97, taken=before) == [0, 2, 4]
    assert select(scores[:0], codes[:0], [], count=9, taken=before) == []


def test_diversity_passes_over_what_is_like_the_first():
    vectors = [direction("a"), mixed({"a": 0.9}, "like a"), direction("b")]
    codes, groups, scores = _codes(np.stack(vectors)), [frozenset()] * 3, np.array([0.9, 0.85, 0.8])
    assert select(scores, codes, groups, count=3) == [0, 1, 2]
    assert select(scores, codes, groups, count=3, diversity=0.2) == [0, 2, 1]
    # Where the difference in similarity is larger than what diversity is worth, similarity decides.
    assert select(np.array([0.9, 0.85, 0.5]), codes, groups, count=3, diversity=0.2) == [0, 1, 2]
    assert select(scores, codes, groups, count=3, diversity=0.2, taken=_codes(direction("b")[None]))[-1] == 2
    # Equals keep their order.
    assert select(np.full(3, 0.5), codes[[0, 0, 0]], groups, count=3, diversity=0.5) == [0, 1, 2]


def test_order_follows_the_formula():
    """Against the definition, over all pairs, step by step."""
    random = np.random.default_rng(3)
    noise = random.random((25, 1)) * random.standard_normal((25, 4096))
    vectors = random.standard_normal((6, 4096))[random.integers(6, size=25)] + noise
    codes, scores = _codes(vectors), np.sort(random.random(25))[::-1]
    left, expected = list(range(25)), []
    while left:

        def worth(place: int) -> float:
            like = max([0.0, *(likeness(codes[other], codes[[place]])[0] for other in expected)])
            return 0.6 * scores[place] - 0.4 * max(like - 0.6, 0) / 0.4

        best = max(left, key=worth)
        expected.append(best)
        left.remove(best)
    groups = [frozenset()] * 25
    for count in (25, 7):
        assert select(scores, codes, groups, count=count, diversity=0.4) == expected[:count]
    assert expected != list(range(25))


def test_to_be_of_one_kind_is_no_fault():
    """Three hoodies and a watch, asked for with a photo that is like none of them."""
    vectors = [mixed({"hoodie": 0.65}, name) for name in ("first", "second", "third")] + [direction("watch")]
    scores = np.array([0.15, 0.12, 0.11, 0.09])
    assert select(scores, _codes(np.stack(vectors)), [frozenset()] * 4, count=4, diversity=0.2) == [0, 1, 2, 3]


@pytest.fixture
def shirts() -> dict[str, Product]:
    """Three shirts that are nearly one, two more of their kind, and a coat that is a little less similar."""
    kind = {"x": 0.8, "stripes": 0.55}
    return make_shop(
        {
            "asked": {"x": 1.0},
            "shirt": kind,
            "shirt again": {"x": 0.797, "stripes": 0.548, "of its own: shirt": 0.22},
            "striped": {"x": 0.78, "stripes": 0.55},
            "coat": {"x": 0.72, "wool": 0.6},
        }
    )


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_one_of_near_copies_is_shown_and_diversity_orders_the_rest(settings, shirts, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path]}
    asked = shirts["asked"]
    plain = SearchOptions(diversity=0.0, collapse=False)
    assert names(similar_products(asked, options=plain)) == ["shirt", "shirt again", "striped", "coat"]
    collapsed = SearchOptions(diversity=0.0)
    assert names(similar_products(asked, options=collapsed)) == ["shirt", "striped", "coat"]
    diverse = SearchOptions(diversity=0.3)
    assert names(similar_products(asked, options=diverse)) == ["shirt", "coat", "striped"]
    # The settings decide where the call doesn't.
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DIVERSITY": 0.3, "DUPLICATE_SIMILARITY": 2.0}
    assert names(similar_products(asked, 8)) == ["shirt", "coat", "striped", "shirt again"]
    assert [round(p.similarity, 1) for p in similar_products(asked, 8)] == [0.8, 0.7, 0.8, 0.8]


@pytest.mark.django_db
def test_of_variants_one_is_shown_and_the_products_own_are_left_out(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VARIANT_GROUP": "description", "DIVERSITY": 0.0}
    made = make_shop({name: {"x": cosine} for name, cosine in zip("abcdef", (1, 0.9, 0.8, 0.7, 0.6, 0.5), strict=True)})
    groups = {"a": "1", "b": "1", "c": "2", "d": "2"}
    for name, group in groups.items():
        Product.objects.filter(pk=made[name].pk).update(description=group)
    # Products without a group (here: with an empty one) are no variants of each other.
    assert names(similar_products(made["a"])) == ["c", "e", "f"]
    assert names(similar_products(made["d"])) == ["a", "e", "f"]
    assert names(similar_products(made["a"], options=SearchOptions(collapse=False))) == ["b", "c", "d", "e", "f"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", PATHS)
def test_looks_further_where_variants_fill_the_first_candidates(settings, path):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        **PATHS[path],
        "VARIANT_GROUP": "description",
        "CANDIDATES": 10,
    }
    category = make_product("asked").category
    crowd = Product.objects.bulk_create(
        [Product(name=f"v{n}", slug=f"v{n}", sku=f"v{n}", category=category, description="one") for n in range(230)]
    )
    others = [make_product(f"other {n}") for n in range(7)]
    asked = Product.objects.get(name="asked")
    vectors = (
        [direction("x")] + [mixed({"x": 0.8}, p.name) for p in crowd] + [mixed({"x": 0.3}, p.name) for p in others]
    )
    store_vectors(
        make_version(), make_photos_without_files([asked, *crowd, *others]), np.stack(vectors).astype(np.float32)
    )
    found = similar_products(asked, 8)
    assert len(found) == 8
    assert sum(product.description == "one" for product in found) == 1
    assert {product.name for product in found[1:]} == {product.name for product in others}


@pytest.mark.django_db
def test_number_of_queries_does_not_grow_with_variants(settings, shirts):
    counts = []
    for extra in ({}, {"VARIANT_GROUP": "description"}, {"DIVERSITY": 0.0}):
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **extra}
        paths.forget_paths()
        with CaptureQueriesContext(connection) as queries:
            similar_products(shirts["asked"])
        counts.append(len(queries))
    assert counts[0] == counts[1] == counts[2] <= 6
