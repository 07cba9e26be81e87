"""What training changes holds for photos like those it saw, and for no others."""

import numpy as np
import pytest

from shop_similarity.training.heads.calibration import CalibrationError, calibrate_head, guard_head
from shop_similarity.training.heads.familiarity import fit_familiarity
from shop_similarity.training.networks.architectures import FEATURES, HEAD, build, feature_model
from shop_similarity.training.networks.architectures.parts import CHANGE, FAMILIARITY
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.splitting import split

SIZE = Preprocessing(size=32)
CONFIG = {"width": 0.125, "embedding_dim": 256, "frozen_through": "block5_pool", "guard": 8}


def in_a_plane(generator, count, length=40, rank=6, noise=0.05):
    return generator.normal(size=(count, rank)) @ PLANE[:rank, :length] + noise * generator.normal(size=(count, length))


PLANE = np.random.default_rng(5).normal(size=(6, 40))


def test_what_fills_the_same_part_of_the_space_is_familiar():
    generator = np.random.default_rng(0)
    known = fit_familiarity(in_a_plane(generator, 400), rank=6, share=0.9)
    assert known.directions.shape == (40, 6)
    assert np.allclose(known.directions.T @ known.directions, np.eye(6), atol=1e-5)
    others = known.residuals(in_a_plane(generator, 2000)) < known.threshold
    assert others.mean() == pytest.approx(0.9, abs=0.05)
    strange = known.residuals(generator.normal(size=(200, 40)))
    assert (strange > known.threshold).all()


def test_the_threshold_comes_from_photos_that_were_left_out():
    # As many directions as photos can carry: those that they were found on would all seem familiar.
    generator = np.random.default_rng(1)
    features = generator.normal(size=(160, 40))
    known = fit_familiarity(features, rank=20, share=0.5)
    fresh = known.residuals(generator.normal(size=(1000, 40))) < known.threshold
    assert fresh.mean() == pytest.approx(0.5, abs=0.1)


def test_few_photos_give_few_directions_and_none_lets_all_energy_count():
    generator = np.random.default_rng(2)
    features = in_a_plane(generator, 33)
    known = fit_familiarity(features, rank=6)
    assert np.count_nonzero(np.linalg.norm(known.directions, axis=0)) == 33 // 8
    assert not fit_familiarity(features[:3], rank=6).directions.any()


@pytest.mark.parametrize("features", [np.zeros((0, 4)), np.full((3, 4), np.nan)])
def test_features_that_say_nothing_are_refused(features):
    with pytest.raises(ValueError, match="features"):
        fit_familiarity(features, rank=2)


@pytest.fixture(scope="module")
def photos():
    """Photos of one kind (smooth greys) and of another (coloured noise)."""
    generator = np.random.default_rng(3)
    ramps = np.linspace(0, 1, 32)[None, :, None, None] * generator.uniform(40, 160, (120, 1, 1, 1))
    known = np.broadcast_to(ramps + generator.uniform(0, 90, (120, 1, 1, 1)), (120, 32, 32, 3))
    return known.astype(np.uint8), generator.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)


def guarded(photos):
    import keras

    keras.utils.set_random_seed(11)
    model = build("mildnet", CONFIG, SIZE)
    features = feature_model(model)(photos[0], training=False).numpy()
    calibrate_head(model, features, CONFIG)
    guard_head(model, features)
    return model


def test_a_guarded_model_starts_as_the_same_model_without_guard(photos):
    model = guarded(photos)
    plain = build("mildnet", CONFIG | {"guard": 0}, SIZE)
    for layer in plain.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    assert np.allclose(model(photos[1]), plain(photos[1]), atol=1e-6)
    assert [variable.path for variable in model.trainable_variables] == [f"{CHANGE}/kernel", f"{CHANGE}/bias"]


def test_a_change_reaches_familiar_photos_alone(photos):
    model = guarded(photos)
    before = [model(kind, training=False).numpy() for kind in photos]
    change = model.get_layer(CHANGE)
    generator = np.random.default_rng(0)
    change.set_weights([generator.normal(size=weight.shape) for weight in change.get_weights()])
    after = [model(kind, training=False).numpy() for kind in photos]
    known, strange = ((old * new).sum(axis=1) for old, new in zip(before, after, strict=True))
    assert np.median(known) < 0.5
    assert strange.min() > 0.999


def test_the_gate_computes_what_was_fitted(photos):
    model = guarded(photos)
    features = feature_model(model)(np.concatenate(photos), training=False).numpy()
    known = fit_familiarity(features[:120], CONFIG["guard"])
    expected = 1 / (1 + np.exp((known.residuals(features) - known.threshold) / 0.1))
    assert np.allclose(model.get_layer(FAMILIARITY)(features).numpy()[:, 0], expected, atol=2e-2)


def test_training_splits_at_the_features_and_leaves_start_and_gate_alone(photos):
    import tensorflow as tf

    model = guarded(photos)
    parts = split(model)
    assert parts.boundary == (FEATURES,)
    kept = {name: model.get_layer(name).get_weights() for name in (HEAD, FAMILIARITY)}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(parts.trainable(parts.features(photos[0][:8]))[:, 0])
    variables = parts.trainable.trainable_variables
    gradients = tape.gradient(loss, variables)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign_sub(gradient)
    for name, weights in kept.items():
        for old, new in zip(weights, model.get_layer(name).get_weights(), strict=True):
            assert np.array_equal(old, new)


@pytest.mark.parametrize("wrong", [{"guard": -1}, {"hidden": [8]}, {"activation": "relu"}])
def test_only_a_linear_head_can_be_guarded(wrong):
    with pytest.raises(ValueError, match="guard"):
        build("mildnet", CONFIG | wrong, SIZE)


def test_no_photo_is_no_guard(photos):
    with pytest.raises(CalibrationError, match="features"):
        guard_head(build("mildnet", CONFIG, SIZE), np.zeros((0, 184)))
