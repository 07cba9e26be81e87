"""The histogram of colours as a layer: the numbers of the one in numpy, whatever the precision and the compiler."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from shop_similarity.training.networks.architectures import FEATURES, build, feature_model, full_config
from shop_similarity.training.networks.architectures.colour import COLOUR, LENGTH, LabHistogram
from shop_similarity.training.networks.precision import dtype_policy
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.splitting import split
from shop_similarity.training.triplets.scorers import lab_histogram
from tests.shop_similarity.drawn_photos import COLOURS, product_image

SMALL = {"width": 0.125, "embedding_dim": 1024}


def photos(size):
    drawn = [np.asarray(product_image("shirt", colour, "striped", (size, size))) for colour in list(COLOURS)[:4]]
    random = np.random.default_rng(0)
    plain = [np.full((size, size, 3), level, np.uint8) for level in (0, 255)]
    return np.stack([*drawn, *plain, random.integers(0, 256, (size, size, 3), dtype=np.uint8)])


def averaged(pixels, side=48):
    """Means over ``side`` x ``side`` equal parts, as differences of sums that grow evenly within a pixel."""
    for axis in (1, 2):
        size = pixels.shape[axis]
        sums = np.insert(np.cumsum(pixels, axis=axis, dtype=np.float64), 0, 0, axis=axis)
        edges = np.arange(side + 1) * size / side
        low = np.minimum(edges.astype(int), size - 1)
        part = np.expand_dims(edges - low, [other for other in range(4) if other != axis])
        grown = (1 - part) * sums.take(low, axis) + part * sums.take(low + 1, axis)
        pixels = np.diff(grown, axis=axis) * side / size
    return pixels


def in_numpy(pixels):
    return np.stack([lab_histogram(photo) for photo in pixels])


@pytest.mark.parametrize("size", [48, 96, 224, 50])
def test_the_numbers_are_those_of_the_histogram_in_numpy(size):
    pixels = photos(size)
    found = LabHistogram(dtype="float32")(pixels.astype(np.float32)).numpy()
    assert found.shape == (len(pixels), LENGTH)
    assert np.allclose(found, in_numpy(averaged(pixels)), atol=2e-3)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.sum(found * in_numpy(averaged(pixels)), axis=1).min() > 0.9999


def test_photos_smaller_than_the_grid_are_taken_as_they_are():
    pixels = photos(32)
    found = LabHistogram(dtype="float32")(pixels.astype(np.float32)).numpy()
    assert np.allclose(found, in_numpy(pixels), atol=2e-3)


@pytest.mark.parametrize("compiler", [False, True])
def test_it_computes_in_float32_in_a_graph_and_compiled(compiler):
    pixels = photos(96).astype(np.float32)
    with dtype_policy("mixed_bfloat16"):
        model = build("mildnet", SMALL | {"colour": 0.03}, Preprocessing(size=96))
    layer = model.get_layer(COLOUR)
    assert layer.compute_dtype == "float32"
    found = tf.function(layer, jit_compile=compiler)(tf.constant(pixels)).numpy()
    assert found.dtype == np.float32
    assert np.allclose(found, layer(pixels).numpy(), atol=1e-4)
    assert np.allclose(found, in_numpy(averaged(pixels)), atol=2e-3)


def test_the_tap_is_joined_after_the_blocks():
    size = Preprocessing(size=48)
    options = SMALL | {"colour": 0.05}
    config = full_config("mildnet", options)
    assert list(config.tap_lengths.items())[-1] == (COLOUR, LENGTH)
    assert config.feature_dim == full_config("mildnet", SMALL).feature_dim + LENGTH
    model = build("mildnet", options, size)
    assert model.get_layer(FEATURES).output.shape[-1] == config.feature_dim
    pixels = photos(48)
    assert np.allclose(feature_model(model)(pixels).numpy()[:, -LENGTH:], in_numpy(pixels), atol=2e-3)


def test_a_model_without_the_tap_is_what_it_was():
    """A version that was stored before the option existed is built as it was then and gives the same vectors."""
    size = Preprocessing(size=32)
    stored = {name: value for name, value in full_config("mildnet", SMALL).to_dict().items() if name != "colour"}
    before, now = build("mildnet", stored, size), build("mildnet", SMALL | {"colour": 0}, size)
    assert COLOUR not in {layer.name for layer in before.layers}
    assert [weights.shape for weights in before.weights] == [weights.shape for weights in now.weights]
    now.set_weights(before.get_weights())
    assert np.array_equal(before(photos(32)).numpy(), now(photos(32)).numpy())
    assert full_config("mildnet", stored).feature_dim == before.get_layer(FEATURES).output.shape[-1]


@pytest.mark.parametrize(
    ("frozen", "boundary"), [("block5_pool", {FEATURES}), ("block3_pool", {COLOUR}), (None, {COLOUR})]
)
def test_it_lies_in_the_half_that_is_computed_once(frozen, boundary):
    model = build("mildnet", SMALL | {"colour": 0.03, "frozen_through": frozen}, Preprocessing(size=48))
    parts = split(model)
    assert boundary <= set(parts.boundary)
    pixels = photos(48)
    assert np.array_equal(
        parts.trainable(parts.features(pixels), training=False).numpy(), model(pixels, training=False).numpy()
    )


def test_it_has_no_weights_and_is_rebuilt_from_its_configuration(tmp_path):
    layer = LabHistogram(name=COLOUR, dtype="float32")
    pixels = photos(48).astype(np.float32)
    found = layer(pixels)
    assert not layer.weights
    again = LabHistogram.from_config(layer.get_config())
    assert np.array_equal(again(pixels).numpy(), found.numpy())
    model = build("mildnet", SMALL | {"colour": 0.03}, Preprocessing(size=48))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert np.allclose(loaded(pixels).numpy(), model(pixels).numpy(), atol=1e-6)


@pytest.mark.parametrize("share", [-0.1, 1, 1.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="colour"):
        build("mildnet", SMALL | {"colour": share}, Preprocessing(size=32))
