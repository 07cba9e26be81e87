"""Features that are computed once: complete after a kill, new for changed photos, and refused without room."""

import signal
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest

from shop_similarity.training.networks.architectures import build
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.splitting import Split, split
from shop_similarity.training.photos import feature_cache
from shop_similarity.training.photos.feature_cache import (
    CacheError,
    FeatureCache,
    content_digests,
    fingerprint,
    readable_size,
)

SIZE = Preprocessing(size=32)
COUNT = 9


def make_split(seed=0):
    import keras

    keras.utils.set_random_seed(seed)
    return split(build("mildnet", {"width": 0.125, "embedding_dim": 16, "frozen_through": "block4_pool"}, SIZE))


@pytest.fixture(scope="module")
def parts():
    return make_split()


@pytest.fixture
def photos():
    generator = np.random.default_rng(0)
    return generator.integers(0, 255, (COUNT, 3, 32, 32, 3)).astype("uint8")


@pytest.fixture
def cache(parts, tmp_path):
    return lambda augmentation=None: FeatureCache(tmp_path, parts, fingerprint(parts, SIZE.to_dict()), augmentation)


def digests(count=COUNT):
    return [f"{number:064x}" for number in range(count)]


def reader(photos, asked=None):
    def read(wanted):
        for place, view in wanted:
            if asked is not None:
                asked.append((place, view))
            yield photos[place, view]

    return read


def expected(parts, photos, view=0):
    return [feature.numpy() for feature in parts.features(photos[:, view])]


def test_features_are_those_of_the_frozen_half_in_their_types(parts, photos, cache):
    made = cache()
    assert made.fill(digests(), [0] * COUNT, reader(photos), batch_size=4) == COUNT
    found = made.select(digests(), [0] * COUNT).batch(np.array([8, 0, 3]))
    for kept, wanted, shape in zip(found, expected(parts, photos), parts.shapes, strict=True):
        assert kept.dtype == (np.float32 if len(shape) == 1 else np.float16)
        assert np.allclose(kept, wanted[[8, 0, 3]], rtol=1e-3, atol=1e-4)


def test_nothing_is_computed_twice_not_even_by_another_process_s_cache(photos, cache):
    cache().fill(digests(), [0] * COUNT, reader(photos))
    asked = []
    assert cache().fill(digests(), [0] * COUNT, reader(photos, asked)) == 0
    assert not asked
    # A changed photo has another digest.
    changed = [*digests()[:-1], "f" * 64]
    assert cache().fill(changed, [0] * COUNT, reader(photos, asked)) == 1
    assert asked == [(COUNT - 1, 0)]
    # Equal files are one.
    assert cache().missing(["e" * 64, "e" * 64], [0, 0]) == [(0, 0)]


def test_views_are_kept_beside_the_photo_as_it_is(parts, photos, cache):
    made = cache({"flip": True})
    wanted = [2, *[0] * (COUNT - 1)]
    asked = []
    made.fill(digests(), wanted, reader(photos, asked))
    assert sorted(asked) == sorted([(place, 0) for place in range(COUNT)] + [(0, 1), (0, 2)])
    selected = made.select(digests(), wanted)
    for view in range(3):
        kept = selected.batch(np.array([0]), np.array([view]))[1]
        assert np.allclose(kept, expected(parts, photos, view)[1][:1], rtol=1e-4)
    with pytest.raises(CacheError, match="not in the cache"):
        selected.batch(np.array([1]), np.array([1]))
    # Another augmentation shares what is not augmented.
    assert cache({"flip": False}).missing(digests(), wanted) == [(0, 1), (0, 2)]


def test_other_weights_have_a_cache_of_their_own(parts, tmp_path, photos, cache):
    cache().fill(digests(), [0] * COUNT, reader(photos))
    other = make_split(seed=1)
    assert fingerprint(other, SIZE.to_dict()) != fingerprint(parts, SIZE.to_dict())
    assert fingerprint(make_split(), SIZE.to_dict()) == fingerprint(parts, SIZE.to_dict())
    fresh = FeatureCache(tmp_path, other, fingerprint(other, SIZE.to_dict()))
    assert len(fresh.missing(digests(), [0] * COUNT)) == COUNT


def test_a_run_that_breaks_off_keeps_what_it_had(parts, photos, cache, monkeypatch):
    monkeypatch.setattr(feature_cache, "_PHOTOS_BETWEEN_SAVES", 2)

    def breaks(wanted):
        yield from list(reader(photos)(wanted))[:5]
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        cache().fill(digests(), [0] * COUNT, breaks, batch_size=2)
    asked = []
    again = cache()
    assert again.fill(digests(), [0] * COUNT, reader(photos, asked), batch_size=2) == COUNT - 4
    assert [place for place, _ in asked] == list(range(4, COUNT))
    found = again.select(digests(), [0] * COUNT).batch(np.arange(COUNT))
    assert np.allclose(found[1], expected(parts, photos)[1], rtol=1e-4)


CHILD = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from pathlib import Path
import numpy as np
from tests.training.photos.test_feature_cache import *
from shop_similarity.training.photos import feature_cache
feature_cache._PHOTOS_BETWEEN_SAVES = 2
parts = make_split()
photos = np.random.default_rng(0).integers(0, 255, (COUNT, 3, 32, 32, 3)).astype("uint8")
def slow(wanted):
    for number, photo in enumerate(reader(photos)(wanted)):
        if number == 7:
            print("seven", flush=True)
            time.sleep(60)
        yield photo
FeatureCache(Path(sys.argv[1]), parts, fingerprint(parts, SIZE.to_dict())).fill(
    digests(), [0] * COUNT, slow, batch_size=2)
"""


@pytest.mark.long
def test_a_killed_process_loses_no_more_than_it_was_at(tmp_path, parts, photos, cache):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().strip() == "seven"
    child.send_signal(signal.SIGKILL)
    child.wait()
    made = cache()
    assert [place for place, _ in made.missing(digests(), [0] * COUNT)] == [6, 7, 8]
    made.fill(digests(), [0] * COUNT, reader(photos))
    found = made.select(digests(), [0] * COUNT).batch(np.arange(COUNT))
    assert np.allclose(found[1], expected(parts, photos)[1], rtol=1e-4)


def test_a_damaged_segment_is_computed_anew(photos, cache):
    made = cache()
    made.fill(digests(), [0] * COUNT, reader(photos))
    tensor = next(made.folder.glob("*-0.npy"))
    with tensor.open("r+b") as file:
        file.truncate(200)
    assert len(cache().missing(digests(), [0] * COUNT)) == COUNT


def test_a_full_disk_is_told_before_anything_is_written(photos, cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda folder: usage(10, 5, 5))
    made = cache()
    with pytest.raises(CacheError, match=r"needs .* for 9 photos, and .* has 5 bytes left"):
        made.fill(digests(), [0] * COUNT, reader(photos))
    assert not made.folder.exists()


class Damaged(Split):
    """Halves whose boundary tensors are far too large."""

    def features(self, photos):
        return [1e6 + 0 * tensor for tensor in super().features(photos)]


def test_numbers_that_do_not_fit_are_told(parts, tmp_path, photos):
    damaged = Damaged(parts.frozen, parts.trainable, parts.boundary)
    made = FeatureCache(tmp_path, damaged, fingerprint(parts, SIZE.to_dict()))
    with pytest.raises(CacheError, match="do not fit"):
        made.fill(digests(), [0] * COUNT, reader(photos))


def test_files_are_known_by_their_content(tmp_path):
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    one, same, other = content_digests([tmp_path / name for name in "abc"])
    assert one == same != other
    with pytest.raises(CacheError, match="can't be read"):
        content_digests([tmp_path / "gone"])


def test_sizes_in_words():
    assert [readable_size(value) for value in (12, 1_500, 25_000_000, 3_400_000_000)] == [
        "12 bytes",
        "1.5 KB",
        "25 MB",
        "3.4 GB",
    ]
