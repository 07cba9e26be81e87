import numpy as np
import pytest

from shop_similarity.photos.decoding import ImageLimits, open_image
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.photos.augmentation import Augmentation
from shop_similarity.training.photos.dataset import PhotoError, photo_batches, photo_errors
from tests.shop_similarity.drawn_photos import products

PREPROCESSING = Preprocessing(size=32, resize="pad")
BATCHES = [np.array([3, 1, 3, 0]), np.array([5, 4, 2, 1])]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for number, product in enumerate(products(6)):
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(product.photo((160 + 20 * number, 120), seed=number))
    return paths


def served(path):
    """What a worker hands to the network."""
    return PREPROCESSING.prepare(open_image(path.read_bytes(), target_size=PREPROCESSING.size))


def numbers(dataset):
    return [batch.numpy() for batch in dataset]


def test_pixels_are_those_of_serving_in_the_order_of_the_places(paths):
    dataset = photo_batches(paths, BATCHES, PREPROCESSING)
    assert dataset.element_spec.shape == (4, 32, 32, 3)
    found = numbers(dataset)
    assert [batch.dtype for batch in found] == [np.uint8] * 2
    for batch, places in zip(found, BATCHES, strict=True):
        assert np.array_equal(batch, np.stack([served(paths[place]) for place in places]))


def test_batches_may_differ_in_size_and_the_last_is_never_dropped(paths):
    found = numbers(photo_batches(paths, [np.array([0, 1, 2]), np.array([3]), np.array([], dtype=int)], PREPROCESSING))
    assert [len(batch) for batch in found] == [3, 1, 0]


def test_many_batches_come_in_order(paths):
    places = np.random.default_rng(0).integers(0, 6, (40, 2))
    expected = np.stack([served(path) for path in paths])
    found = numbers(photo_batches(paths, list(places), PREPROCESSING, threads=3))
    assert np.array_equal(np.stack(found), expected[places])


def test_augmented_pixels_repeat_with_seed_and_epoch_and_differ_else(paths):
    def epoch(seed, number):
        return np.concatenate(numbers(photo_batches(paths, BATCHES, PREPROCESSING, Augmentation(), seed, number)))

    first = epoch(1, 0)
    assert np.array_equal(first, epoch(1, 0))
    plain = np.concatenate(numbers(photo_batches(paths, BATCHES, PREPROCESSING)))
    for other in (epoch(1, 1), epoch(2, 0), plain):
        assert all(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    # The same photo twice in a batch is changed twice.
    assert not np.array_equal(first[0], first[2])


def test_how_an_epoch_is_cut_into_batches_does_not_change_its_pixels(paths):
    whole = numbers(photo_batches(paths, [np.concatenate(BATCHES)], PREPROCESSING, Augmentation(), 7, 3))[0]
    parts = numbers(photo_batches(paths, BATCHES, PREPROCESSING, Augmentation(), 7, 3))
    assert np.array_equal(whole, np.concatenate(parts))


def test_a_photo_that_went_bad_is_named(paths, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(paths[0].read_bytes()[:200])
    for bad in (broken, tmp_path / "gone.jpg"):
        with pytest.raises(PhotoError, match=rf"{bad.name} can't be used any more: .*--resume\.$"), photo_errors():
            numbers(photo_batches([*paths, bad], [np.array([0, 6])], PREPROCESSING))


def test_limits_hold_in_training_too(paths):
    with pytest.raises(PhotoError, match=r"0\.jpg"), photo_errors():
        numbers(photo_batches(paths, [np.array([0])], PREPROCESSING, limits=ImageLimits(max_pixels=100)))


def test_other_errors_of_tensorflow_pass_unchanged():
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError), photo_errors():
        tf.ensure_shape(tf.zeros(3), (2,))
