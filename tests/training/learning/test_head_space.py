"""A guarded head is trained in the space that its start maps to, and folded back without a change."""

import numpy as np
import pytest

from shop_similarity.training.heads.calibration import calibrate_head, guard_head
from shop_similarity.training.learning.distribution import Distribution
from shop_similarity.training.learning.head_space import HeadSpace
from shop_similarity.training.networks.architectures import build, feature_model
from shop_similarity.training.networks.architectures.colour import COLOUR
from shop_similarity.training.networks.architectures.mildnet import MildnetConfig
from shop_similarity.training.networks.architectures.parts import CHANGE
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.questions import Questions
from shop_similarity.training.networks.splitting import split

SIZE = Preprocessing(size=32)
CONFIG = {"width": 0.125, "embedding_dim": 1024, "frozen_through": "block5_pool", "guard": 8, "colour": 0.2}
HUES = MildnetConfig(**CONFIG).tap_lengths[COLOUR]


@pytest.fixture(scope="module")
def photos():
    generator = np.random.default_rng(3)
    colours = generator.integers(0, 256, (60, 1, 1, 3))
    return (colours * generator.uniform(0.6, 1, (60, 32, 32, 1))).astype(np.uint8)


def calibrated(photos, config):
    import keras

    keras.utils.set_random_seed(11)
    model = build("mildnet", config, SIZE)
    features = feature_model(model)(photos, training=False).numpy()
    calibrate_head(model, features, config)
    guard_head(model, features)
    return model


@pytest.fixture
def model(photos):
    return calibrated(photos, CONFIG)


def space_of(model, hues=HUES, config=CONFIG):
    return HeadSpace.of(model, split(model), hues, Distribution().scope(), Questions.of(config))


def cosines(rows):
    rows = np.asarray(rows)
    return rows @ rows.T


def changed(space):
    generator = np.random.default_rng(0)
    for variable in space.split.trainable.trainable_variables:
        variable.assign(generator.normal(0, 0.1, variable.shape))
    return [variable.numpy() for variable in space.split.trainable.trainable_variables]


@pytest.mark.parametrize("config", [CONFIG, CONFIG | {"instance": 0.2}])
def test_it_begins_as_the_model_and_is_folded_back_as_it_was_trained(config, photos):
    model = calibrated(photos, config)
    space = space_of(model, config=config)
    inside = space.split.features(photos)
    start = cosines(model(photos, training=False))
    assert np.allclose(cosines(space.split.trainable(inside)), start, atol=1e-4)
    change = changed(space)
    trained = cosines(space.split.trainable(inside))
    assert np.abs(trained - start).max() > 0.1
    assert np.allclose(cosines(model(photos, training=False)), start)
    space.fold()
    assert np.allclose(cosines(model(photos, training=False)), trained, atol=1e-4)
    # A later run goes on with it.
    again = space_of(model, config=config).split.trainable.trainable_variables
    assert len(again) == 1 + ("instance" in config)
    assert all(np.allclose(one.numpy(), other, atol=1e-3) for one, other in zip(again, change, strict=True))
    # What it gives has only to be lifted to be the model's own.
    assert np.allclose(space.lift(space.split.trainable(inside).numpy()), model(photos, training=False), atol=1e-4)


def test_its_change_is_all_that_is_trained_and_leaves_colours_alone(model):
    space = space_of(model)
    assert [v.path for v in space.split.trainable.trainable_variables] == [f"{CHANGE}/kernel"]
    changed(space)
    space.fold()
    kernel = model.get_layer(CHANGE).get_weights()[0]
    assert np.abs(kernel[:-HUES]).max() > 1e-3
    assert np.abs(kernel[-HUES:]).max() < 1e-5 * np.abs(kernel).max()


def test_either_part_of_two_questions_is_changed_by_its_own_matrix(photos):
    config = CONFIG | {"instance": 0.2}
    model, questions = calibrated(photos, config), Questions.of(config)
    space = space_of(model, config=config)
    before = questions.in_parts(model(photos, training=False).numpy())
    _first, second = space.split.trainable.trainable_variables
    second.assign(np.random.default_rng(0).normal(0, 0.3, second.shape))
    space.fold()
    after = questions.in_parts(model(photos, training=False).numpy())
    look, instance, colours = (
        np.corrcoef(before[:, part].ravel(), after[:, part].ravel())[0, 1] for part in questions.parts
    )
    assert min(look, colours) > 0.999 and instance < 0.99


def test_a_start_of_one_question_has_no_parts(model):
    assert space_of(model, config=CONFIG | {"instance": 0.2}) is None


def test_a_change_that_was_trained_in_front_of_the_start_is_trained_there(model):
    change = model.get_layer(CHANGE)
    change.set_weights([np.random.default_rng(0).normal(size=weight.shape) for weight in change.get_weights()])
    assert space_of(model) is None


@pytest.mark.parametrize("config", [{"guard": 0}, {"frozen_through": "block4_pool"}, {"embedding_dim": 64}])
def test_other_heads_have_no_such_space(config):
    assert space_of(build("mildnet", CONFIG | config, SIZE)) is None
