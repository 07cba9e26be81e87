from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shop_similarity.training.triplets.parting import split, split_by_query, without_validated
from shop_similarity.training.triplets.photo_hashes import Picture
from shop_similarity.training.triplets.sides import side_of
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


def named(triplets, of=lambda product: f"product {product}"):
    """The same with the names of its products."""
    names = [[of(place // VIEWS) for place in column] for column in triplets.rows.T.tolist()]
    columns = zip(("query", "positive", "negative"), names, strict=True)
    return replace(
        triplets,
        **{f"{column}_{what}": each for column, each in columns for what in ("group", "category")},
    )


def pictured(triplets):
    """The same with bytes that follow from a photo's name."""
    return replace(triplets, pictures=tuple(Picture(f"{name:0>64}", b"", b"") for name in triplets.images))


def test_a_product_keeps_its_side_whatever_comes_and_goes():
    whole = named(shop())
    for share in (0.1, 0.3):
        known: dict[int, bool] = {}
        for seed in range(6):
            # Each time without another third of the products, and with other triplets of those that are left.
            triplets = named(shop(seed=seed))
            triplets = triplets.select((triplets.rows // VIEWS % 3 != seed % 3).all(axis=1))
            parts = split(triplets, share, seed)
            assert parts.share == share
            for in_validation, side in ((False, parts.train), (True, parts.validation)):
                for product in product_of(side.images).tolist():
                    assert known.setdefault(product, in_validation) == in_validation
                    assert (side_of(f"product {product}", share) == "validation") == in_validation
    assert split(whole, 0.2, 5).validation.images == split(whole, 0.2, 6).validation.images
    assert set(split(whole, 0.1).validation.images) <= set(split(whole, 0.3).validation.images)


def test_a_seed_makes_one_choice_of_new_negatives():
    one, again, other = split(shop(), 0.2, 5), split(shop(), 0.2, 5), split(shop(), 0.2, 6)
    assert one.validation.images == again.validation.images
    assert np.array_equal(one.train.rows, again.train.rows)
    assert set(map(tuple, one.train.rows.tolist())) != set(map(tuple, other.train.rows.tolist()))


def test_photos_without_a_name_stand_where_those_do_that_they_are_linked_to():
    # 0-1 are views of a; 1-2 of it too, though the row does not say so; 3-4 have no name; 5 is of a and of b.
    trained, validated = (
        next(n for n in map(str, range(99)) if side_of(n, 0.5) == s) for s in ("training", "validation")
    )
    rows = np.array([[0, 1, 6], [1, 2, 7], [3, 4, 6], [5, 0, 8], [8, 9, 7], [9, 8, 10], [11, 8, 10], [12, 13, 14]])
    triplets = Triplets(
        tuple(f"{place}.jpg" for place in range(15)),
        rows,
        ["instance_view"] * 5 + ["similar"] * 2 + ["instance_view"],
        ["out_of_class"] * 8,
        Path("/photos"),
        query_group=[trained, "", "", trained, validated, "", trained, validated],
        negative_group=["", "", "", "", "", validated, validated, validated],
    )
    parts = split(triplets, 0.5)
    sides = [{name for name in side.images} for side in (parts.train, parts.validation)]
    assert {"0.jpg", "1.jpg", "2.jpg"} <= sides[0] and {"8.jpg", "9.jpg", "10.jpg"} <= sides[1]
    own = "training" if "3.jpg" in sides[0] else "validation"
    assert side_of(min("3.jpg", "4.jpg"), 0.5) == own
    both = replace(triplets, positive_group=["", "", "", "", "", trained, "", ""])
    assert "8.jpg" not in {
        name for side in (split(both, 0.5).train, split(both, 0.5).validation) for name in side.images
    }


def test_the_share_grows_where_nothing_would_be_set_aside():
    names = iter(f"product {number}" for number in range(10_000))
    wanted = [next(name for name in names if low <= _share_of(name) < high) for low, high in ((0.12, 0.2),) * 3]
    wanted += [next(name for name in names if _share_of(name) > 0.5) for _ in range(17)]
    triplets = shop()
    triplets = triplets.select((triplets.rows // VIEWS < PRODUCTS).all(axis=1))
    parts = split(named(triplets, lambda product: wanted[product]), 0.1)
    assert parts.share == 0.2 and set(product_of(parts.validation.images).tolist()) <= {0, 1, 2}
    assert "20% of products" in str(parts)


def test_new_negatives_come_with_their_names():
    parts = split(named(shop()), 0.2)
    assert parts.redrawn
    for side in (parts.train, parts.validation):
        names = np.array([f"product {product}" for product in product_of(side.images)])[side.rows[:, 2]]
        assert np.array_equal(side.negative_group, names) and np.array_equal(side.negative_category, names)


def _share_of(name):
    """The smallest of hundredths that sets a key aside."""
    return next((share / 100 for share in range(1, 100) if side_of(name, share / 100) == "validation"), 1)


def test_old_triplets_of_what_is_validated_on_are_left_out():
    triplets = pictured(named(shop()))
    parts = split(triplets, 0.2)
    kept = without_validated(triplets, parts.set_aside(), 0.2)
    aside = {f"product {product}" for product in range(80) if side_of(f"product {product}", 0.2) == "validation"}
    assert len(kept) and not kept.group_names() & aside
    # By bytes where names say nothing.
    nameless = replace(triplets, query_group=None, positive_group=None, negative_group=None)
    kept = without_validated(nameless, parts.set_aside(), 0.2)
    assert len(kept) and not {p.sha256 for p in kept.pictures} & {p.sha256 for p in parts.validation.pictures}


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
    groups = train.group_names()
    assert 0.09 < sum(side_of(name) == "validation" for name in groups) / len(groups) < 0.11
    # Positives that are only similar are mostly of products of the other side.
    assert 0.02 < len(result.validation) / len(train) < 0.1 and len(result.train) > 0.75 * len(train)
    assert 0.4 < result.validation.in_class().mean() < 0.7


def test_a_split_by_query_sets_products_aside_in_every_place():
    rows = np.array([[q, (q + p) % 60, (q + n) % 60] for q in range(60) for p, n in ((1, 7), (3, 11))], dtype=np.int32)
    triplets = Triplets(tuple(f"{n:02d}.jpg" for n in range(60)), rows, ["clicked"] * 120, ["skipped"] * 120, Path("x"))
    triplets = pictured(triplets)
    parts = split_by_query(triplets, 0.2)
    shown = [[[part.images[place] for place in row] for row in part.rows] for part in (parts.train, parts.validation)]
    aside = {name for name in triplets.images if side_of(f"{name:0>64}", 0.2) == "validation"}
    assert {row[0] for row in shown[1]} == aside
    assert parts.set_aside() == {f"{row[0]:0>64}" for row in shown[1]}
    assert not aside & {name for row in shown[0] for name in row}
    assert len(parts.train) + len(parts.validation) + parts.dropped == 120 and parts.dropped
    assert f"{parts.dropped} were left out" in str(parts)
    # Others come and go.
    fewer = split_by_query(triplets.select(rows[:, 0] % 4 != 0), 0.2)
    assert set(fewer.validation.images[place] for place in fewer.validation.rows[:, 0]) <= aside
    assert not aside & set(fewer.train.images)


def test_one_query_cannot_be_split():
    triplets = Triplets(("a", "b", "c"), np.array([[0, 1, 2]]), ["clicked"], ["skipped"], Path("x"))
    with pytest.raises(TripletError, match="1 queries can't be split"):
        split_by_query(triplets)
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_by_query(triplets, 1)
