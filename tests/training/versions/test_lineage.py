"""What versions have seen, and what is said of comparisons that leak."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shop_similarity.models import ModelVersion
from shop_similarity.training.triplets.photo_hashes import Picture
from shop_similarity.training.triplets.sides import Sides
from shop_similarity.training.triplets.table import Triplets
from shop_similarity.training.versions.lineage import SEEN, Leak, Seen, leak_of, seen_by

SHOP = "shop.Product"


def triplets(first, keys=SHOP):
    """One triplet of three photos of two products."""
    places = range(first, first + 3)
    return Triplets(
        tuple(f"{place}.jpg" for place in places),
        np.array([[0, 1, 2]]),
        ["instance_view"],
        ["in_class"],
        Path("/photos"),
        query_group=[f"p{first}"],
        negative_group=[f"p{first + 2}"],
        pictures=tuple(Picture(f"{place:064x}", b"", b"") for place in places),
        keys=keys,
    )


def leak(seen, validation, sides=Sides(0.1, SHOP)):  # noqa: B008
    photos = {picture.sha256 for picture in validation.pictures}
    return leak_of(seen, photos, validation.keys, validation.group_names(), sides)


def seen(*sets, share=0.1, keys=SHOP):
    return Seen.in_training(sets, Sides(share, keys))


def version(**metrics):
    return ModelVersion(name="autumn", metrics=metrics)


def test_products_that_the_same_rule_sets_aside_are_new_to_a_version():
    assert not leak(seen(triplets(0)), triplets(10))
    assert not leak(seen(triplets(0), share=0.2), triplets(10))
    assert not leak(Seen(), triplets(10))


def test_what_was_trained_on_is_found_by_its_bytes_and_by_its_name():
    found = leak(seen(triplets(0), triplets(9)), triplets(10))
    assert found.is_certain and found.photos == (2, 3) and found.groups == (0, 2)
    assert "autumn was trained on what it is validated on here (2 of 3 photos" in found.about("autumn")
    # Its photos were replaced meanwhile.
    other = replace(triplets(10), pictures=triplets(20).pictures)
    found = leak(seen(triplets(10)), other)
    assert found.photos == (0, 3) and found.groups == (2, 2) and "2 of 2 products" in found.about("autumn")
    # Another file's p10 is not the shop's.
    assert leak(seen(triplets(10, "table")), other).groups == (0, 2)


@pytest.mark.parametrize(
    "origin",
    [
        seen(triplets(0), share=0.05),
        seen(triplets(0, "table"), keys="table"),
        Seen.in_training([triplets(0, "table")], None),
        seen(triplets(0)) | Seen.in_training([triplets(3, "table")], None),
    ],
)
def test_another_origin_may_have_seen_it(origin):
    found = leak(origin, triplets(10))
    assert found and found.other_origin and not found.is_certain
    assert "The comparison leaks: for autumn other products were set aside" in found.about("autumn")
    # A set that was given follows no rule; its photos are looked up all the same.
    assert not leak(origin, triplets(10), None) and leak(origin, triplets(0), None).is_certain


def test_what_a_version_records_is_read_back():
    known = seen(triplets(0)) | Seen.in_training([triplets(5, "table")], None)
    stored = json.loads(json.dumps(known.to_dict()))
    assert seen_by(version(training={}, **{SEEN: stored})) == known
    assert len(json.dumps(Seen.in_training([], None).to_dict())) < 500


def test_a_version_without_a_record():
    assert seen_by(version(calibration={"photos": 5})) == Seen()
    # It has learned from products, and nobody knows which.
    assert seen_by(version(calibration={"photos": 5, "pairs": 2})) == Seen(unknown=("autumn",))
    for metrics in ({"training": {}}, {}, {"calibration": {}, "training": {}}, {SEEN: {"photos": 5}}, {SEEN: None}):
        assert seen_by(version(**metrics)) == Seen(unknown=("autumn",))
    assert seen_by(ModelVersion(name="autumn", metrics=None)).unknown
    found = leak(seen(triplets(0)) | Seen(unknown=("spring",)), triplets(10))
    assert found and not found.is_certain
    assert "it is not recorded what spring was trained on, so autumn may know" in found.about("autumn")
    assert found.to_dict()["unknown"] == ["spring"] and not Leak()
