"""A model split at the boundary of what is trained gives what the whole model gives."""

import keras
import numpy as np
import pytest

from shop_similarity.training.networks.architectures import build
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.splitting import NothingToTrain, split

SIZE = Preprocessing(size=32)
PHOTOS = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3)).astype("uint8")


def small(**config):
    return build("mildnet", {"width": 0.125, "embedding_dim": 32, "frozen_through": None, **config}, SIZE)


@pytest.mark.parametrize(
    ("config", "boundary", "weights"),
    [
        ({"frozen_through": "block5_pool"}, ["features"], 2),
        (
            {"frozen_through": "block4_pool"},
            ["block4_pool", "block1_pool_unit", "block2_pool_unit", "block3_pool_unit", "block4_pool_unit"],
            8,
        ),
        (
            {"frozen_through": "block3_conv3"},
            ["block3_pool", "block1_pool_unit", "block2_pool_unit", "block3_pool_unit"],
            14,
        ),
        ({"frozen_through": None}, ["normalisation"], 28),
        ({"frozen_through": "block5_pool", "hidden": [16], "dropout": 0.5}, ["features"], 4),
    ],
)
def test_the_halves_make_the_whole(config, boundary, weights):
    model = small(**config)
    parts = split(model)
    assert sorted(parts.boundary) == sorted(boundary)
    assert len(parts.trainable.trainable_variables) == weights
    assert not parts.frozen.trainable_variables
    features = parts.features(PHOTOS)
    assert [tuple(feature.shape[1:]) for feature in features] == parts.shapes
    found = parts.trainable(features, training=False)
    assert np.array_equal(found.numpy(), model(PHOTOS, training=False).numpy())


@pytest.mark.parametrize("architecture", ["mildnet-lite", "mildnet-joined", "ranknet", "visnet", "visnet-fynd"])
def test_every_architecture_can_be_split(architecture):
    config = {"width": 0.0625, "embedding_dim": 16}
    if not architecture.startswith("mildnet"):
        config |= {"hidden": [16, 16], "frozen_through": "block5_pool"}
    model = build(architecture, config, Preprocessing(size=64))
    photos = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype("uint8")
    parts = split(model)
    features = parts.features(photos)
    found = parts.trainable(features, training=False).numpy()
    assert np.allclose(found, model(photos, training=False).numpy(), atol=1e-6)
    assert len(parts.trainable.trainable_variables) == len(model.trainable_variables)


def test_training_one_half_trains_the_model():
    model = small(frozen_through="block5_pool")
    parts = split(model)
    before = model(PHOTOS).numpy()
    parts.trainable.trainable_variables[0].assign_add(
        np.random.default_rng(1).normal(size=parts.trainable.trainable_variables[0].shape)
    )
    assert np.abs(model(PHOTOS).numpy() - before).max() > 0.01


def test_dropout_is_drawn_anew_and_so_never_kept():
    inputs = keras.Input((4,))
    x = keras.layers.Dropout(0.5, name="drop")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="embedding")(x))
    parts = split(model)
    assert "drop" in [layer.name for layer in parts.trainable.layers]


def test_frozen_batch_normalisation_keeps_its_statistics():
    inputs = keras.Input((4,))
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Model(inputs, keras.layers.Dense(2, name="embedding")(norm(inputs)))
    norm.trainable = False
    parts = split(model)
    assert [layer.name for layer in parts.frozen.layers if layer.name == "norm"] == ["norm"]
    before = [weight.numpy() for weight in norm.weights]
    data = np.random.default_rng(0).normal(5, 3, (8, 4)).astype("float32")
    parts.trainable(parts.features(data), training=True)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, norm.weights, strict=True))


def test_a_frozen_model_is_told():
    model = small()
    model.trainable = False
    with pytest.raises(NothingToTrain, match="nothing to train"):
        split(model)
