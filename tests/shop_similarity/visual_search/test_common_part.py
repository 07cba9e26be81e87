"""What all shoppers' photos share is no part of a query."""

from __future__ import annotations

import numpy as np
import pytest

from shop_similarity.models import ModelVersion, VisualQueryMean
from shop_similarity.search import search_by_vector
from shop_similarity.visual_search.common_part import HALF, MEMORY, without_common_part
from tests.shop_similarity.factories import make_version
from tests.shop_similarity.shops import direction, make_shop, mixed, names
from tests.vectors import DIM


def _mean(version: ModelVersion) -> np.ndarray:
    return np.frombuffer(VisualQueryMean.objects.get(version=version).mean, "<f4")


@pytest.mark.django_db
def test_first_photo_is_searched_with_as_it_is_and_later_ones_by_the_formula():
    version = make_version()
    photos = [mixed({"carpet": 0.7}, f"photo {number}") for number in range(8)]
    for number, photo in enumerate(photos):
        found = without_common_part(version, photo)
        before = np.mean(photos[:number], axis=0) if number else np.zeros(DIM)
        expected = photo - number / (number + HALF) * before
        assert np.allclose(found, expected / np.linalg.norm(expected), atol=1e-5)
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
        assert np.allclose(_mean(version), np.mean(photos[: number + 1], axis=0), atol=1e-6)
    assert VisualQueryMean.objects.get(version=version).photos == len(photos)


@pytest.mark.django_db
def test_versions_do_not_share_a_mean():
    first, second = make_version(), make_version("other", state=ModelVersion.State.CANDIDATE)
    for _ in range(3):
        without_common_part(first, direction("carpet"))
    assert np.allclose(without_common_part(second, direction("other")), direction("other"), atol=1e-6)
    assert VisualQueryMean.objects.get(version=second).photos == 1


@pytest.mark.django_db
def test_one_photo_again_and_again_is_still_searched_with():
    version = make_version()
    photo = mixed({"carpet": 0.7}, "photo")
    for _ in range(30):
        found = without_common_part(version, photo)
    assert found @ photo == pytest.approx(1, abs=1e-4)
    # Nor does a mean that equals the photo leave nothing to search with.
    VisualQueryMean.objects.filter(version=version).update(photos=10**9)
    found = without_common_part(version, photo)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-4)


@pytest.mark.django_db
def test_mean_follows_what_shoppers_search_for():
    version = make_version()
    old, new = direction("old"), direction("new")
    VisualQueryMean.objects.create(version=version, mean=old.astype("<f4").tobytes(), photos=1_000_000)
    for _ in range(MEMORY):
        without_common_part(version, new)
    assert 0.3 < _mean(version) @ old < 0.4


@pytest.mark.django_db
def test_snapshots_find_what_is_on_them_and_not_what_lies_like_a_carpet():
    """Bags lie a little in the direction in which all snapshots differ from the shop's photos; hoodies do not."""
    make_shop({"hoodie": {"hoodie": 0.8}, "tee": {"tee": 0.8}, "bag": {"bag": 0.8, "carpet": 0.35}})
    version = ModelVersion.objects.get()
    snapshots = [mixed({"carpet": 0.85, kind: 0.3}, f"{kind} {n}") for n in range(10) for kind in ("hoodie", "tee")]
    assert {names(search_by_vector(snapshot, 1))[0] for snapshot in snapshots} == {"bag"}
    found = [names(search_by_vector(without_common_part(version, snapshot), 1))[0] for snapshot in snapshots]
    assert found[0] == "bag"
    assert found[-10:] == ["hoodie", "tee"] * 5
