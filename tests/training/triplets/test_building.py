import hashlib
import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shop_similarity.training.triplets import building
from shop_similarity.training.triplets.building import ProductPhoto
from shop_similarity.training.triplets.parting import split
from shop_similarity.training.triplets.scorers import describe
from shop_similarity.training.triplets.sides import side_of
from shop_similarity.training.triplets.table import TripletError
from tests.shop_similarity.drawn_photos import products


def build_triplets(*arguments, **options):
    return building.build_triplets(*arguments, **options).triplets


def photos(sizes, views=2, styles=6, seed=0):
    """Products of categories "0", "1", ...: of each size many, ``styles`` looks to a category, each in some products.

    Names are category/product/view; product p of a category has style p % styles.
    """
    generator = np.random.default_rng(seed)
    made = []
    for category, size in enumerate(sizes):
        looks = generator.standard_normal((styles, 32))
        for product in range(size):
            for view in range(views):
                vector = looks[product % styles] + 0.05 * generator.standard_normal(32)
                made.append(
                    ProductPhoto(
                        f"{category}/{product}/{view}",
                        f"{category}-{product}",
                        str(category),
                        vector / np.linalg.norm(vector),
                    )
                )
    return made


def parts(triplets):
    """(rows, 3) of (category, product, view) as integers."""
    return np.array([[triplets.images[place].split("/") for place in row] for row in triplets.rows]).astype(int)


def test_positives_are_views_of_the_product_or_its_nearest_in_the_category():
    triplets = build_triplets(photos([60, 60]), Path("/x"), 600)
    assert len(triplets) == 600
    found = parts(triplets)
    same_product = (found[:, 0, :2] == found[:, 1, :2]).all(axis=1)
    assert np.array_equal(same_product, triplets.positive_type == "instance_view")
    assert 0.3 < same_product.mean() < 0.7
    similar = found[~same_product]
    assert (similar[:, 0, 0] == similar[:, 1, 0]).all()
    # Ten products of a category have the same style: the four nearest are of it.
    assert (similar[:, 0, 1] % 6 == similar[:, 1, 1] % 6).all()
    assert (triplets.rows[:, 0] != triplets.rows[:, 1]).all()


def test_negatives_are_of_the_kind_they_say_and_never_among_the_nearest():
    triplets = build_triplets(photos([60, 60]), Path("/x"), 600)
    found = parts(triplets)
    in_class = found[:, 0, 0] == found[:, 2, 0]
    assert np.array_equal(in_class, triplets.in_class())
    assert np.array_equal(~in_class, triplets.out_of_class())
    counts = Counter(triplets.negative_type.tolist())
    assert set(counts) == {"in_class", "in_class_hard", "out_of_class"}
    assert all(0.2 < count / 600 < 0.5 for count in counts.values())
    # The nearest twelve are the nine others of the style and three more.
    assert (found[in_class][:, 0, 1] % 6 != found[in_class][:, 2, 1] % 6).all()


def test_hard_negatives_score_higher_than_the_others():
    made = photos([80, 80])
    vectors = {photo.name: photo.vector for photo in made}
    triplets = build_triplets(made, Path("/x"), 1_000)
    scores = np.array(
        [vectors[triplets.images[query]] @ vectors[triplets.images[negative]] for query, _, negative in triplets.rows]
    )
    means = {kind: scores[triplets.negative_type == kind].mean() for kind in ("in_class_hard", "in_class")}
    assert means["in_class_hard"] > means["in_class"] + 0.05


def test_categories_are_balanced_as_far_as_they_have_photos():
    triplets = build_triplets(photos([400, 60, 5]), Path("/x"), 1_000)
    queries = Counter(parts(triplets)[:, 0, 0].tolist())
    # Five products with two photos give 120 at most; the two others share the rest.
    assert 0 < queries[2] <= 120
    assert abs(queries[0] - queries[1]) < 30
    assert sum(queries.values()) == len(triplets) > 950


def test_small_categories_give_instances_only_and_single_photos_need_a_category():
    made = photos([10, 60], views=2)
    found = build_triplets(made, Path("/x"), 400)
    small = parts(found)[:, 0, 0] == 0
    assert set(found.positive_type[small]) == {"instance_view"}
    one_photo = build_triplets(photos([10, 60], views=1), Path("/x"), 400)
    assert set(one_photo.positive_type) == {"similar"}
    assert set(parts(one_photo)[:, 0, 0].tolist()) == {1}


def test_the_farther_half_of_a_small_category_is_unlike():
    found = build_triplets(photos([12, 60], styles=2), Path("/x"), 400)
    small = (parts(found)[:, 0, 0] == 0) & found.in_class()
    # Without them nobody knew which photos are of one category, and training had look-alikes of none.
    assert small.sum() > 50
    query, negative = parts(found)[small][:, 0, 1], parts(found)[small][:, 2, 1]
    assert (query % 2 != negative % 2).all()


def test_products_without_category_have_negatives_of_no_class():
    made = photos([30, 60])
    made = [p if p.category == "1" else ProductPhoto(p.name, p.product, "", p.vector) for p in made]
    triplets = build_triplets(made, Path("/x"), 600)
    found = parts(triplets)
    nameless = (found[:, 0, 0] == 0) | (found[:, 2, 0] == 0)
    assert nameless.any() and set(triplets.negative_type[nameless]) == {""}
    assert set(triplets.positive_type[found[:, 0, 0] == 0]) == {"instance_view"}


def test_a_shop_with_one_category_or_none_can_be_trained_on():
    one = build_triplets(photos([60]), Path("/x"), 200)
    assert set(one.negative_type) == {"in_class", "in_class_hard"}
    none = [ProductPhoto(p.name, p.product, "", p.vector) for p in photos([60])]
    assert set(build_triplets(none, Path("/x"), 200).negative_type) == {""}


def test_look_alikes_in_another_category_are_no_negatives():
    made = photos([60, 60])
    # Category 2 is a sale of what category 0 sells.
    sale = [ProductPhoto("2" + p.name[1:], "2" + p.product[1:], "2", p.vector) for p in made if p.category == "0"]
    found = parts(build_triplets(made + sale, Path("/x"), 1_500))
    crossed = found[((found[:, 0, 0] == 0) & (found[:, 2, 0] == 2)) | ((found[:, 0, 0] == 2) & (found[:, 2, 0] == 0))]
    assert len(crossed) and (crossed[:, 0, 1] != crossed[:, 2, 1]).all()
    assert (crossed[:, 0, 1] % 6 == crossed[:, 2, 1] % 6).mean() < 0.1


def test_products_that_share_a_photo_are_one_product():
    made = photos([60, 60])
    twin = {"0-0": "0-1", "1-5": "1-6"}
    made = [ProductPhoto(p.name, p.product, p.category, p.vector) for p in made] + [
        ProductPhoto(p.name, twin[p.product], p.category, p.vector) for p in made if p.product in twin
    ]
    triplets = build_triplets(made, Path("/x"), 1_400)
    for row, kind in zip(parts(triplets), triplets.positive_type, strict=True):
        products = [f"{category}-{product}" for category, product, _ in row.tolist()]
        joined = [{"0-1": "0-0", "1-6": "1-5"}.get(name, name) for name in products]
        assert joined[0] != joined[2] and joined[1] != joined[2]
        assert (joined[0] == joined[1]) == (kind == "instance_view")


def test_placeholders_are_left_out():
    made = photos([60, 60])
    grey = ProductPhoto("placeholder", "", "", made[0].vector)
    made += [ProductPhoto(grey.name, p.product, p.category, grey.vector) for p in made[::2]]
    triplets = build_triplets(made, Path("/x"), 400)
    assert "placeholder" not in triplets.images
    assert len(set(triplets.query_group)) > 50


def test_seed_and_groups():
    one, again, other = (build_triplets(photos([60, 60]), Path("/x"), 300, seed) for seed in (1, 1, 2))
    assert one.images == again.images and np.array_equal(one.rows, again.rows)
    assert one.rows.shape != other.rows.shape or not np.array_equal(one.rows, other.rows)
    for row, group, negative in zip(parts(one), one.query_group, one.negative_group, strict=True):
        assert group == f"{row[0][0]}-{row[0][1]}" and negative == f"{row[2][0]}-{row[2][1]}"
    names = [one.query_category, one.positive_category, one.negative_category]
    assert np.array_equal(np.stack(names, axis=1).astype(int), parts(one)[:, :, 0])
    result = split(one, 0.2, 0)
    assert len(result.validation) and result.validation.in_class().any()


def sides_of(made, triplets, share):
    """(rows, 3): whether a photo's product is set aside."""
    groups = {photo.name: photo.group_name for photo in made}
    return np.array(
        [[side_of(groups[triplets.images[place]], share) == "validation" for place in row] for row in triplets.rows]
    )


def test_no_triplet_shows_products_of_both_sides_and_none_is_lost_when_they_are_split():
    made = photos([80, 60], views=2)
    built = building.build_triplets(made, Path("/x"), 1_000, share=0.2)
    aside = sides_of(made, built.triplets, 0.2)
    assert built.share == 0.2 and built.of_both_sides == 0
    assert (aside == aside[:, :1]).all()
    share = np.mean([side_of(photo.product, 0.2) == "validation" for photo in made])
    assert abs(aside[:, 0].mean() - share) < 0.02
    for side in (False, True):
        one = built.triplets.select(aside[:, 0] == side)
        # Both kinds of positives and of negatives are there on both sides.
        assert set(one.positive_type) == {"instance_view", "similar"}
        assert set(one.negative_type) == {"in_class", "in_class_hard", "out_of_class"}
        found = parts(one)
        similar = found[one.positive_type == "similar"]
        assert (similar[:, 0, 1] % 6 == similar[:, 1, 1] % 6).mean() > 0.95
    parted = split(built.triplets, 0.2)
    assert parted.dropped == parted.redrawn == 0 and len(parted.validation) == aside[:, 0].sum()


def test_what_is_trained_on_does_not_change_with_the_number_of_those_set_aside():
    made = photos([60, 60])
    one = building.build_triplets(made, Path("/x"), 600, share=0.1).triplets
    single = photos([60, 60], views=1)
    assert building.build_triplets(single, Path("/x"), 600, share=0.1).share == 0.1
    again = building.build_triplets(made, Path("/x"), 600, share=0.1).triplets
    assert one.images == again.images and np.array_equal(one.rows, again.rows)


def test_a_photo_of_products_on_both_sides_is_left_out():
    made = photos([60])
    trained, validated = (
        next(photo for photo in made if side_of(photo.product, 0.2) == side) for side in ("training", "validation")
    )
    made.append(ProductPhoto(trained.name, validated.product, "0", trained.vector))
    built = building.build_triplets(made, Path("/x"), 600, share=0.2)
    assert built.of_both_sides == 1 and trained.name not in built.triplets.images
    assert {trained.product, validated.product} <= built.triplets.group_names()


def test_variants_are_of_one_side_and_never_each_other_s_negatives():
    made = [
        ProductPhoto(photo.name, photo.product, photo.category, photo.vector, f"group {int(photo.product[2:]) // 3}")
        for photo in photos([60])
    ]
    built = building.build_triplets(made, Path("/x"), 600, share=0.2)
    aside = sides_of(made, built.triplets, 0.2)
    assert (aside == aside[:, :1]).all() and aside.any() and not aside.all()
    assert built.triplets.group_names() == {f"group {number}" for number in range(20)}
    groups = parts(built.triplets)[:, :, 1] // 3
    assert (groups[:, 2] != groups[:, 0]).all() and (groups[:, 2] != groups[:, 1]).all()


def test_a_small_shop_sets_more_aside_before_it_has_nothing_to_validate_with():
    names = [f"p{number}" for number in range(2_000)]
    wanted = [name for name in names if side_of(name, 0.1) == "training"]
    wanted = [name for name in wanted if side_of(name, 0.2) == "validation"][:4] + [
        name for name in wanted if side_of(name, 0.2) == "training"
    ][:41]
    made = [
        ProductPhoto(photo.name, wanted[int(photo.product[2:])], photo.category, photo.vector) for photo in photos([45])
    ]
    assert building.build_triplets(made, Path("/x"), 300, share=0.1).share == 0.2


def test_chunks_give_what_one_piece_gives(monkeypatch):
    whole = build_triplets(photos([60, 60]), Path("/x"), 300)
    monkeypatch.setattr(building, "_CHUNK", 7)
    pieces = build_triplets(photos([60, 60]), Path("/x"), 300)
    assert whole.images == pieces.images and np.array_equal(whole.rows, pieces.rows)


def drawn_photos():
    """A hundred drawn products with two photos each, described as a catalogue's are."""
    return [
        ProductPhoto(
            f"{number}/{view}",
            str(number),
            str(number % 2),
            describe(Image.open(io.BytesIO(product.photo((96, 96), view)))),
        )
        for number, product in enumerate(products(100))
        for view in range(2)
    ]


def fingerprint():
    """Of triplets of clustered vectors and of drawn photos."""
    digest = hashlib.sha256()
    for made in (photos([150, 60], styles=3), drawn_photos()):
        triplets = build_triplets(made, Path("/x"), 2_000)
        digest.update(repr(triplets.images).encode() + triplets.rows.tobytes())
    return digest.hexdigest()


@pytest.mark.long
def test_one_seed_gives_the_same_triplets_under_every_kernel():
    """OpenBLAS chooses its kernels by the processor, and each adds in another order, as other numbers of threads do.

    Other BLAS ignore the variables.
    """
    script = "from tests.training.triplets.test_building import fingerprint; print(fingerprint())"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | {"OPENBLAS_CORETYPE": kernel, "OPENBLAS_NUM_THREADS": threads},
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            text=True,
        )
        for kernel, threads in (("Prescott", "1"), ("Haswell", "2"))
    ]
    assert {process.communicate()[0].strip() for process in processes} == {fingerprint()}


def test_too_small_a_catalogue_is_said_with_numbers():
    with pytest.raises(TripletError, match="at least 40 products with a usable photo of their own, and there are 12"):
        build_triplets(photos([12]), Path("/x"))
    with pytest.raises(TripletError, match="there are 0"):
        build_triplets([], Path("/x"))
    with pytest.raises(TripletError, match="no two photos that could be alike: none of its 45 products has a second"):
        build_triplets(photos([15, 15, 15], views=1), Path("/x"))


def test_progress_reaches_the_end():
    seen = []
    build_triplets(photos([60, 10]), Path("/x"), 100, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (140, 140)
