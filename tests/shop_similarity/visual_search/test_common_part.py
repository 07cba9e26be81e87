"""What all shoppers' photos share is no part of a query."""

from __future__ import annotations

import numpy as np
import pytest

from shop_similarity.models import ModelVersion, VisualQueryMean
from shop_similarity.search import search_by_vector
from shop_similarity.visual_search.common_part import HALF, LEAST, without_common_part
from tests.shop_similarity.factories import make_version
from tests.shop_similarity.shops import direction, make_shop, mixed, names
from tests.shop_similarity.visual_search.uploads import upload


def _set_mean(version: ModelVersion, mean: np.ndarray, photos: int) -> None:
    VisualQueryMean.objects.create(version=version, mean=mean.astype("<f4").tobytes(), photos=photos)


@pytest.mark.django_db
@pytest.mark.parametrize("photos", [5, 8, 500])
def test_photos_are_searched_with_by_the_formula(photos):
    version = make_version()
    photo, mean = mixed({"carpet": 0.7}, "photo"), 0.7 * direction("carpet")
    assert np.array_equal(without_common_part(version, photo), photo)
    _set_mean(version, mean, photos)
    expected = photo - photos / (photos + HALF) * mean
    found = without_common_part(version, photo)
    assert np.allclose(found, expected / np.linalg.norm(expected), atol=1e-5)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


@pytest.mark.django_db
def test_versions_do_not_share_a_mean():
    first, second = make_version(), make_version("other", state=ModelVersion.State.CANDIDATE)
    _set_mean(first, direction("carpet"), 100)
    assert np.allclose(without_common_part(second, direction("other")), direction("other"), atol=1e-6)


@pytest.mark.django_db
@pytest.mark.parametrize("likeness", [0.8, 0.95, 1.0])
def test_something_of_a_photo_is_always_left(likeness):
    """Also where the mean is that of one photo again and again, and the shopper's is much like it."""
    version = make_version()
    _set_mean(version, direction("forged"), 10**9)
    photo = mixed({"forged": likeness}, "photo").astype(np.float32)
    found = without_common_part(version, photo)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-4)
    assert found @ photo >= LEAST - 1e-3


@pytest.mark.django_db
def test_snapshots_find_what_is_on_them_and_not_what_lies_like_a_carpet():
    """Bags lie a little in the direction in which all snapshots differ from the shop's photos; hoodies do not."""
    make_shop({"hoodie": {"hoodie": 0.8}, "tee": {"tee": 0.8}, "bag": {"bag": 0.8, "carpet": 0.35}})
    version = ModelVersion.objects.get()
    snapshots = [mixed({"carpet": 0.85, kind: 0.3}, f"{kind} {n}") for n in range(10) for kind in ("hoodie", "tee")]
    assert {names(search_by_vector(snapshot, 1))[0] for snapshot in snapshots} == {"bag"}
    found = [names(search_by_vector(upload(version, snapshot), 1))[0] for snapshot in snapshots]
    assert found[0] == "bag"
    assert found[-10:] == ["hoodie", "tee"] * 5
