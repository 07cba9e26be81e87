import keras
import numpy as np
import pytest

from shop_similarity.training.networks.runner import FixedShape, extract


@pytest.fixture(scope="module")
def model():
    photos = keras.Input((4, 4, 3))
    return keras.Model(photos, keras.layers.GlobalAveragePooling2D()(photos))


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_every_photo_has_its_row_whatever_the_batch(model, count):
    photos = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    done = []
    rows = extract(model, iter(photos), 4, done.append)
    assert rows.shape == (count, 3) and rows.dtype == np.float32
    assert np.allclose(rows, photos.mean(axis=(1, 2)), atol=1e-4)
    assert done == [min(place, count) for place in range(4, count + 4, 4)]


def test_one_shape_is_compiled_and_several_arrays_and_results_go_together():
    traces = []

    def function(one, other):
        traces.append(one.shape)
        return [one + other[:, :1], other]

    step = FixedShape(function, 8)
    for count in (8, 3, 1, 8):
        one, other = np.ones((count, 2), np.float32), np.full((count, 5), 2, np.float16)
        total, same = step(one, np.asarray(other, np.float32))
        assert total.shape == (count, 2) and (total == 3).all() and same.shape == (count, 5)
    assert len(traces) == 1
