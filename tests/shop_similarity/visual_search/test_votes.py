"""Nobody moves the mean of all photos alone, and nobody reads a photo out of what is kept."""

from __future__ import annotations

import logging
from datetime import timedelta

import numpy as np
import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from shop_similarity.models import ModelVersion, VisualQuery, VisualQueryMean
from shop_similarity.search import search_by_vector
from shop_similarity.visual_search import votes
from shop_similarity.visual_search.queue import purge
from shop_similarity.visual_search.votes import GROUP, MEMORY
from tests.shop_similarity.factories import make_version
from tests.shop_similarity.shops import direction, make_shop, mixed, names
from tests.shop_similarity.visual_search.uploads import upload
from tests.vectors import DIM

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_old_votes(settings):
    cache.clear()
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DIVERSITY": 0.0}
    yield
    cache.clear()


def snapshot(name, **parts) -> np.ndarray:
    return mixed({"carpet": 0.7, **parts}, name)


def mean_of(version) -> np.ndarray:
    return np.frombuffer(VisualQueryMean.objects.get(version=version).mean, "<f4")


def waiting() -> int:
    return VisualQuery.objects.filter(vote__isnull=False).count()


def test_votes_move_the_mean_in_groups_and_not_singly():
    version = make_version()
    photos = [snapshot(f"photo {number}") for number in range(3 * GROUP)]
    for number, photo in enumerate(photos, start=1):
        upload(version, photo)
        counted = number // GROUP * GROUP
        assert waiting() == number - counted
        if not counted:
            assert not VisualQueryMean.objects.exists()
        else:
            assert VisualQueryMean.objects.get().photos == counted
            assert np.allclose(mean_of(version), np.mean(photos[:counted], axis=0), atol=1e-4)


@pytest.mark.parametrize("address", [pytest.param("192.0.2.7", marks=pytest.mark.long), "2001:db8:1:2::{:x}"])
def test_120_uploads_of_one_photo_by_one_client_change_nothing(address):
    """As found: the mean became that photo, and who then searched with it found another product."""
    forged = snapshot("forged", hoodie=0.5)
    shop = {name: {name: 0.8} for name in ("tee", "bag")}
    make_shop({"hoodie": {"hoodie": 0.8, "carpet": 0.3}, **shop})
    version = ModelVersion.objects.get()
    assert names(search_by_vector(upload(version, forged, "192.0.2.1"), 1)) == ["hoodie"]
    for number in range(120):
        upload(version, forged, address.format(number + 1))
    assert not VisualQueryMean.objects.exists()
    assert names(search_by_vector(upload(version, forged), 1)) == ["hoodie"]


@pytest.mark.parametrize(
    ("is_first", "likeness"),
    [
        (True, 0.93),
        *(
            pytest.param(is_first, likeness, marks=pytest.mark.long)
            for is_first in (True, False)
            for likeness in (1.0, 0.98, 0.93, 0.8)
            if (is_first, likeness) != (True, 0.93)
        ),
    ],
)
def test_120_uploads_of_one_photo_by_20_clients_leave_the_right_answer(is_first, likeness):
    """Also where each changes the photo a little, and where honest votes came before."""
    forged = mixed({"hoodie": 0.75}, "forged")
    make_shop({name: {name: 0.8} for name in ("hoodie", "tee", "bag")})
    version = ModelVersion.objects.get()
    if not is_first:
        for number in range(2 * GROUP):
            upload(version, snapshot(f"honest {number}"))
    rest = np.sqrt(1 - likeness**2)
    variants = [likeness * forged + rest * direction(f"change {number}") for number in range(20)]
    for number in range(120):
        vector = variants[number % 20]
        upload(version, (vector / np.linalg.norm(vector)).astype(np.float32), f"192.0.2.{number % 20 + 1}")
    if likeness >= 0.98:
        assert [row.photos for row in VisualQueryMean.objects.all()] == ([] if is_first else [2 * GROUP])
        # Twenty clients with twenty photos that differ more do move it; then only what is most like them is safe.
        assert names(search_by_vector(upload(version, mixed({"hoodie": 0.6}, "another")), 1)) == ["hoodie"]
    assert names(search_by_vector(upload(version, forged), 1)) == ["hoodie"]


def test_a_photo_that_was_counted_is_known_again_by_others_and_later():
    version = make_version()
    photos = [snapshot(f"photo {number}") for number in range(GROUP)]
    for photo in photos:
        upload(version, photo)
    VisualQuery.objects.all().delete()
    cache.clear()
    for photo in photos:
        upload(version, photo)
    assert waiting() == 0 and VisualQueryMean.objects.get().photos == GROUP


def test_honest_photos_of_one_kind_are_not_taken_for_one_photo():
    version = make_version()
    for number in range(60):
        upload(version, snapshot(f"photo {number}", hoodie=0.4))
    assert VisualQueryMean.objects.get().photos == 60
    assert mean_of(version) @ direction("carpet") == pytest.approx(0.7, abs=0.05)


def test_a_client_votes_once_a_day_and_who_asks_for_privacy_not_at_all():
    version = make_version()
    for number in range(3):
        upload(version, snapshot(f"photo {number}"), "192.0.2.7")
    assert waiting() == 1
    upload(version, snapshot("private"), DNT="1")
    upload(version, snapshot("nowhere"), "")
    assert waiting() == 1
    cache.clear()  # as a new day does
    upload(version, snapshot("tomorrow"), "192.0.2.7")
    assert waiting() == 2


def test_where_the_cache_keeps_nothing_nobody_votes(settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    version = make_version()
    for number in range(2 * GROUP):
        upload(version, snapshot(f"photo {number}"))
    assert waiting() == 0 and not VisualQueryMean.objects.exists()


def test_a_vote_is_kept_no_longer_than_its_answer(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_KEEP_SECONDS": 600}
    version = make_version()
    for number in range(GROUP - 1):
        upload(version, snapshot(f"photo {number}"))
    VisualQuery.objects.update(created_at=timezone.now() - timedelta(seconds=601))
    purge()
    upload(version, snapshot("the fifth"))
    assert waiting() == 1 and not VisualQueryMean.objects.exists()


def test_nothing_that_is_kept_or_logged_is_a_photos_vector(caplog):
    """Neither the mean, nor two means' difference, nor a mark, once the answers are gone."""
    version = make_version()
    with caplog.at_level(logging.DEBUG, "shop_similarity"):
        photos = [snapshot(f"photo {number}") for number in range(2 * GROUP)]
        means = [np.zeros(DIM)]
        for photo in photos:
            upload(version, photo)
            if VisualQueryMean.objects.exists() and not np.array_equal(mean_of(version), means[-1]):
                means.append(mean_of(version))
    assert len(means) == 3 and not caplog.records
    for candidate in (means[1], means[2], 2 * means[2] - means[1]):
        rest = candidate - (candidate @ direction("carpet")) * direction("carpet")
        for photo in photos:
            own = photo - 0.7 * direction("carpet")
            assert own @ rest / np.linalg.norm(own) / np.linalg.norm(rest) < 0.6
    row = VisualQueryMean.objects.get()
    marks = [bytes(row.marks)[at : at + 16] for at in range(0, len(row.marks), 16)]
    assert len(marks) == 2 * GROUP
    assert marks[:GROUP] == sorted(marks[:GROUP]) and marks[GROUP:] == sorted(marks[GROUP:])
    # Who knows the key as well knows 128 signs, and so a vector that is nothing like the photo's.
    signs = np.unpackbits(np.frombuffer(marks[0], np.uint8)) * 2.0 - 1
    from django.conf import settings

    guess = votes._projections(settings.SECRET_KEY) @ signs
    assert max(guess @ photo for photo in photos) / np.linalg.norm(guess) < 0.3
    VisualQuery.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM shop_similarity_visualquery WHERE vote IS NOT NULL")
        assert cursor.fetchone() == (0,)


def test_mean_follows_what_shoppers_search_for():
    version = make_version()
    old, new = direction("old"), direction("new")
    VisualQueryMean.objects.create(version=version, mean=old.astype("<f4").tobytes(), photos=1_000_000)
    for number in range(20):
        upload(version, mixed({"new": 0.6}, f"photo {number}"))
    assert mean_of(version) @ old == pytest.approx((1 - GROUP / MEMORY) ** 4, abs=0.01)
    assert mean_of(version) @ new == pytest.approx(0.6 * (1 - (1 - GROUP / MEMORY) ** 4), abs=0.01)
    assert len(VisualQueryMean.objects.get().marks) <= 16 * MEMORY
