from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shop_similarity.training.triplets.parting import split, split_by_query
from shop_similarity.training.triplets.table import TripletError, Triplets, read_triplets

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "photos"
CATEGORIES, PRODUCTS, VIEWS = 4, 20, 3


def shop(labelled=True, seed=0, root="/photos"):
    """Triplets of a shop of four categories with twenty products of three photos each."""
    generator = np.random.default_rng(seed)
    rows, positive_types, negative_types = [], [], []

    def photo(category, product):
        return (category * PRODUCTS + product) * VIEWS + int(generator.integers(VIEWS))

    for category in range(CATEGORIES):
        for product in range(PRODUCTS):
            for number in range(6):
                query = (category * PRODUCTS + product) * VIEWS + number % VIEWS
                similar = number == 5
                positive = (
                    photo(category, (product + 1) % PRODUCTS)
                    if similar
                    else query // VIEWS * VIEWS + (number + 1) % VIEWS
                )
                inside = number % 2 == 0
                other = (product + int(generator.integers(3, PRODUCTS - 3))) % PRODUCTS
                away = (category + int(generator.integers(1, CATEGORIES))) % CATEGORIES
                rows.append((query, positive, photo(category if inside else away, other)))
                positive_types.append("similar" if similar else "instance_view")
                negative_types.append("in_class_hard" if inside else "out_of_class")
    keep = np.unique(np.array(rows), axis=0, return_index=True)[1]
    return Triplets(
        tuple(f"{place:03}.jpg" for place in range(CATEGORIES * PRODUCTS * VIEWS)),
        np.array(rows)[keep],
        np.array(positive_types)[keep] if labelled else None,
        np.array(negative_types)[keep] if labelled else None,
        Path(root),
    )


def product_of(names):
    return np.array([int(name[:3]) // VIEWS for name in names])


def category_of(triplets):
    return product_of(triplets.images) // PRODUCTS


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_no_product_stands_on_both_sides(labelled, seed):
    triplets = shop(labelled)
    if not labelled:
        # Without labels every positive ties two products together; leave the similar ones out.
        rows = triplets.rows
        triplets = triplets.select(rows[:, 0] // VIEWS == rows[:, 1] // VIEWS)
    result = split(triplets, 0.2, seed)
    train, validation = (set(product_of(side.images).tolist()) for side in (result.train, result.validation))
    assert not train & validation
    assert len(result.train) + len(result.validation) + result.dropped == len(triplets)


def test_both_sides_keep_their_share_of_each_category_and_of_in_class_negatives():
    triplets = shop()
    result = split(triplets, 0.2, 1)
    assert 0.1 < len(result.validation) / len(triplets) < 0.3
    for side in (result.train, result.validation):
        queries = Counter(category_of(side)[side.rows[:, 0]].tolist())
        assert len(queries) == CATEGORIES and min(queries.values()) > max(queries.values()) / 3
        assert 0.35 < side.in_class().mean() < 0.65


def test_new_negatives_are_of_the_kind_that_they_replace():
    result = split(shop(), 0.2, 2)
    assert result.redrawn > 50
    for side in (result.train, result.validation):
        categories, products = category_of(side), product_of(side.images)
        queries, positives, negatives = side.rows.T
        assert np.array_equal(categories[queries] == categories[negatives], side.in_class())
        assert (products[negatives] != products[queries]).all() and (products[negatives] != products[positives]).all()
        pairs = {tuple(pair) for pair in side.positive_pairs().tolist()}
        assert not pairs & {(q, n) for q, n in zip(queries.tolist(), negatives.tolist(), strict=True)}
    # "Hard" was said of the negatives that are gone.
    assert set(result.train.negative_type) == {"in_class", "in_class_hard", "out_of_class"}


def test_without_labels_no_negative_is_invented():
    triplets = shop(labelled=False)
    triplets = triplets.select(triplets.rows[:, 0] // VIEWS == triplets.rows[:, 1] // VIEWS)
    result = split(triplets, 0.3, 0)
    assert result.redrawn == 0 and result.dropped > 0 and len(result.validation)
    known = {tuple(triplets.images[place] for place in row) for row in triplets.rows}
    for side in (result.train, result.validation):
        assert {tuple(side.images[place] for place in row) for row in side.rows} <= known


def test_named_groups_stay_together_whatever_the_positives_say():
    triplets = shop()
    rows = triplets.rows
    # Two products to a style.
    named = Triplets(
        triplets.images,
        rows,
        np.full(len(rows), "similar"),
        triplets.negative_type,
        triplets.root,
        query_group=[f"style-{place // (2 * VIEWS)}" for place in rows[:, 0]],
        negative_group=[f"style-{place // (2 * VIEWS)}" for place in rows[:, 2]],
    )
    result = split(named, 0.2, 0)
    sides = [set(side.query_group) | set(side.negative_group) for side in (result.train, result.validation)]
    assert not sides[0] & sides[1]
    for side in (result.train, result.validation):
        for row, group in zip(side.rows, side.negative_group, strict=True):
            assert group == f"style-{int(side.images[row[2]][:3]) // (2 * VIEWS)}"


def test_a_seed_makes_one_split():
    one, again, other = split(shop(), 0.2, 5), split(shop(), 0.2, 5), split(shop(), 0.2, 6)
    assert one.validation.images == again.validation.images
    assert np.array_equal(one.train.rows, again.train.rows)
    assert one.validation.images != other.validation.images


def test_what_cannot_be_split_is_said():
    one = Triplets(("a", "b", "c"), np.array([[0, 1, 2]]), None, None, Path("/photos"))
    with pytest.raises(TripletError, match="can't be split"):
        split(one)
    for share in (0, 1, 1.5):
        with pytest.raises(ValueError, match="share"):
            split(one, share)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared photos are not here")
def test_real_triplets_split_without_a_group_on_both_sides():
    train = read_triplets(SHARED / "triplets_train.csv")
    result = split(train, 0.1, 0)
    sides = [(set(side.query_group) | set(side.negative_group)) - {""} for side in (result.train, result.validation)]
    assert not sides[0] & sides[1]
    assert not set(result.train.images) & set(result.validation.images)
    assert 0.05 < len(result.validation) / len(train) < 0.15
    assert 0.4 < result.validation.in_class().mean() < 0.7


def test_a_split_by_query_shares_no_query_and_no_pair():
    rows = np.array([[q, p, n] for q in range(20) for p, n in ((q ^ 1, 20), ((q + 3) % 20, 21))], dtype=np.int32)
    triplets = Triplets(tuple(f"{n:02d}.jpg" for n in range(22)), rows, ["clicked"] * 40, ["skipped"] * 40, Path("x"))
    parts = split_by_query(triplets, 0.2, seed=3)
    named = [[[part.images[place] for place in row] for row in part.rows] for part in (parts.train, parts.validation)]
    queries = [{row[0] for row in rows} for rows in named]
    assert len(parts.validation) == 8 and not queries[0] & queries[1]
    pairs = [{frozenset(row[:2]) for row in rows} for rows in named]
    assert not pairs[0] & pairs[1]
    assert len(parts.train) + len(parts.validation) + parts.dropped == 40 and parts.dropped
    assert f"{parts.dropped} were left out" in str(parts)
    again = split_by_query(triplets, 0.2, seed=3)
    assert again.validation.images == parts.validation.images
    assert split_by_query(triplets, 0.2, seed=4).validation.images != parts.validation.images


def test_one_query_cannot_be_split():
    triplets = Triplets(("a", "b", "c"), np.array([[0, 1, 2]]), ["clicked"], ["skipped"], Path("x"))
    with pytest.raises(TripletError, match="1 queries can't be split"):
        split_by_query(triplets)
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_by_query(triplets, 1)
