"""Every architecture against the published shapes and parameter counts, and shrunk ones at work."""

import math

import numpy as np
import pytest

from shop_similarity.training.networks.architectures import (
    ARCHITECTURES,
    FEATURES,
    HEAD,
    backbone_of,
    build,
    full_config,
)
from shop_similarity.training.networks.architectures.mildnet import PUBLISHED
from shop_similarity.training.networks.architectures.parts import (
    BoundedNormalization,
    LocalResponseNormalization,
    PowerNormalization,
    feature_model,
)
from shop_similarity.training.networks.precision import dtype_policy, fast_policy
from shop_similarity.training.networks.preprocessing import Preprocessing

SIZE = Preprocessing(size=32)
SMALL = {
    "mildnet": {"width": 0.0625, "embedding_dim": 64},
    "mildnet-joined": {"width": 0.0625, "embedding_dim": 64},
    "mildnet-lite": {"width": 0.0625, "embedding_dim": 64},
    "ranknet": {"width": 0.0625, "embedding_dim": 64, "hidden": [16, 16]},
    "visnet": {"width": 0.0625, "embedding_dim": 64, "hidden": [16, 16], "deep_dim": 16},
    "visnet-fynd": {"width": 0.0625, "embedding_dim": 64, "hidden": [16, 16]},
}
# mildnet-lite2 is mildnet-lite with more repeats: when shrunk, what holds for one holds for the other.
SHRUNK = sorted(SMALL)
SHAPES = {
    "ranknet": {
        "block5_pool_avg": 512,
        "hidden1": 4096,
        "hidden2": 4096,
        "shallow1_shrink": (56, 56, 3),
        "shallow1_border": (64, 64, 3),
        "shallow1_conv": (15, 15, 96),
        "shallow1_conv_border": (19, 19, 96),
        "shallow1_pool": (4, 4, 96),
        "shallow2_shrink": (28, 28, 3),
        "shallow2_border": (36, 36, 3),
        "shallow2_conv": (8, 8, 96),
        "shallow2_conv_border": (10, 10, 96),
        "shallow2_pool": (4, 4, 96),
        "shallow": 3072,
        FEATURES: 7168,
        HEAD: 4096,
    },
    "visnet-fynd": {
        "block5_pool_avg": 512,
        "hidden2": 4096,
        "shallow1_conv": (14, 14, 96),
        "shallow1_pool": (4, 4, 96),
        "shallow2_conv": (7, 7, 96),
        "shallow2_pool": (4, 4, 96),
        "shallow": 3072,
        FEATURES: 7168,
        HEAD: 4096,
    },
    "visnet": {
        "flat": 25088,
        "hidden2": 4096,
        "deep": 4096,
        "shallow1_conv": (15, 15, 96),
        "shallow1_pool": (5, 5, 96),
        "shallow1_flat": 2400,
        "shallow2_conv": (8, 8, 96),
        "shallow2_pool": (5, 5, 96),
        "shallow2_flat": 2400,
        FEATURES: 8896,
        HEAD: 4096,
    },
}
PARAMETERS = {"ranknet": 68_308_224, "visnet-fynd": 62_998_528, "visnet": 187_521_024}


@pytest.fixture(autouse=True)
def fresh_keras():
    import keras

    keras.utils.set_random_seed(1)
    yield
    keras.backend.clear_session()


def photos(count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def trainable(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


@pytest.mark.parametrize("name", ["ranknet", "visnet-fynd", pytest.param("visnet", marks=pytest.mark.slow)])
def test_the_comparison_models_have_the_published_shapes(name):
    model = build(name, {}, Preprocessing())
    assert model.count_params() == PARAMETERS[name]
    for layer, shape in SHAPES[name].items():
        shape = shape if isinstance(shape, tuple) else (shape,)
        assert model.get_layer(layer).output.shape[1:] == shape, layer
    assert model.output_shape == (None, 4096)
    assert trainable(model) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("form", "features", "parameters", "trained"),
    [
        ("paper", 1472, 21_927_744, 20_192_256),
        ("without-block1", 1408, 21_796_672, None),
        ("without-blocks-1-2", 1280, 21_534_528, None),
        ("without-blocks-1-3", 1024, 21_010_240, None),
        ("block5-alone", 512, 19_961_664, None),
        ("head-1024-512", 1472, None, None),
        ("head-512-512", 1472, None, None),
        ("block5-512-512", 512, None, None),
        ("vgg19", 1472, 27_237_440, None),
        ("nothing-frozen", 1472, 21_927_744, 21_927_744),
        ("shallow", 2048 + 3072, 42_940_416, None),
        ("mobilenet", 1024, 5_328_064, None),
    ],
)
def test_mildnet_s_published_forms(form, features, parameters, trained):
    config = PUBLISHED[form]
    model = build("mildnet", config.to_dict(), Preprocessing())
    assert model.get_layer(FEATURES).output.shape == (None, features)
    assert model.output_shape == (None, config.embedding_dim)
    assert parameters in (None, model.count_params())
    assert trained in (None, trainable(model))
    dropped = [layer.rate for layer in model.layers if layer.name.startswith("dropout")]
    assert dropped == [config.dropout] * len(config.hidden)


@pytest.mark.parametrize(
    ("name", "numbers"), [("mildnet-lite", 24 + 40 + 112 + 320 + 1280), ("mildnet-lite2", 24 + 48 + 120 + 352 + 1280)]
)
def test_the_lite_models_join_five_taps_and_leave_the_network_alone(name, numbers):
    model = build(name, {}, Preprocessing())
    assert model.get_layer(FEATURES).output.shape == (None, numbers)
    assert model.output_shape == (None, 4096)
    assert trainable(model) == numbers * 4096 + 4096


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name == "mildnet-joined" else name for name in SHRUNK]
)
def test_shrunk_ones_give_unit_embeddings_and_survive_being_stored(name, tmp_path):
    model = build(name, SMALL[name], SIZE)
    found = model(photos()).numpy()
    assert found.shape == (3, 64)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert feature_model(model)(photos()).shape == (3, model.get_layer(HEAD).kernel.shape[0])
    model.save_weights(tmp_path / "m.weights.h5")
    # What a stored version has: the whole configuration as JSON.
    again = build(name, full_config(name, SMALL[name]).to_dict(), SIZE)
    again.load_weights(tmp_path / "m.weights.h5")
    assert np.array_equal(again(photos()).numpy(), found)
    model.save(tmp_path / "m.keras")
    import keras

    whole = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    assert np.allclose(whole(photos()).numpy(), found, atol=1e-6)


@pytest.mark.parametrize("name", SHRUNK)
def test_every_trained_part_gets_a_gradient(name):
    import tensorflow as tf

    model = build(name, SMALL[name] | {"frozen_through": None}, SIZE)
    with tf.GradientTape() as tape:
        # Not the length, which is 1 whatever the weights are.
        loss = tf.reduce_sum(model(photos(), training=True)[:, ::2])
    for weight, gradient in zip(model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient.numpy()).all(), weight.path


@pytest.mark.parametrize("name", SHRUNK)
def test_only_the_backbone_follows_the_precision(name):
    with dtype_policy("mixed_bfloat16"):
        model = build(name, SMALL[name], SIZE)
    narrow = {layer.name for layer in model.layers if layer.compute_dtype == "bfloat16"} - {"photos"}
    assert narrow
    assert all(layer.startswith(("block", "stem", "top")) for layer in narrow)
    assert model(photos()).dtype == "float32"


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - {"mildnet-encoder"}))
def test_defaults_are_whole_and_name_the_backbone(name):
    default = full_config(name, {}).to_dict()
    assert default["embedding_dim"] == 4096
    assert full_config(name, default) == full_config(name, {})
    expected = {
        "mildnet-joined": "vgg16+efficientnet_lite0",
        "mildnet-lite": "efficientnet_lite0",
        "mildnet-lite2": "efficientnet_lite2",
        "ranknet": "vgg19",
    }.get(name, "vgg16")
    assert backbone_of(name, {}) == default["backbone"] == expected


@pytest.mark.parametrize("name", ["ranknet", "visnet", "visnet-fynd"])
@pytest.mark.parametrize("wrong", [{"width": 0}, {"dropout": 1}, {"backbone": "resnet"}, {"taps": []}, {"hidden": [0]}])
def test_options_that_cannot_be_built_are_refused(name, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        build(name, SMALL[name] | wrong, SIZE)


def test_the_lite_model_keeps_to_its_backbone():
    with pytest.raises(ValueError, match="efficientnet_lite0"):
        build("mildnet-lite", {"backbone": "vgg16"}, SIZE)
    with pytest.raises(ValueError, match="block2, block7 can be"):
        build("mildnet-lite", {"pooling": "gem", "taps": ["block2", "top", "block7"]}, SIZE)


@pytest.mark.parametrize("through", ["block3b_add", "block3"])
def test_training_leaves_alone_what_lies_below_a_layer_or_a_tap(through):
    model = build("mildnet-lite", SMALL["mildnet-lite"] | {"frozen_through": through}, SIZE)
    state = {layer.name: layer.trainable for layer in model.layers if layer.weights}
    assert not any(state[name] for name in state if name.startswith(("stem", "block1", "block2", "block3")))
    assert all(state[name] for name in ("block4a_expand_conv", "top_conv", HEAD))
    # The statistics of a batch of triplets are no statistics.
    assert not any(state[name] for name in state if name.endswith("_bn"))
    before = model.get_layer("top_bn").get_weights()
    model(photos(), training=True)
    assert all(map(np.array_equal, before, model.get_layer("top_bn").get_weights()))
    loose = build("mildnet-lite", SMALL["mildnet-lite"] | {"frozen_through": through, "frozen_batch_norm": False}, SIZE)
    assert loose.get_layer("top_bn").trainable
    assert not loose.get_layer("block2a_bn").trainable


def test_a_config_of_the_first_release_builds_the_same_model():
    """As calibrate_mildnet stored it before there was more than one backbone."""
    stored = {
        "taps": ["block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"],
        "pooling": "avg",
        "gem_power": 3.0,
        "tap_power": 0.8,
        "normalise_taps": True,
        "hidden": [],
        "dropout": 0.6,
        "embedding_dim": 64,
        "activation": "linear",
        "frozen_through": "block3_conv3",
        "width": 0.125,
    }
    model = build("mildnet", stored, SIZE)
    # A weights file numbers the layers of each class in this order.
    blocks = [f"block{block}_conv{number}" for block, n in enumerate((2, 2, 3, 3, 3), 1) for number in range(1, n + 1)]
    assert [layer.name for layer in model.layers if layer.weights] == [*blocks, "embedding"]
    assert [type(layer).__name__ for layer in model.layers if "pool_" in layer.name] == (
        ["GlobalAveragePooling2D"] * 5 + ["PowerNormalization"] * 5 + ["UnitNormalization"] * 5
    )
    assert model.get_layer(HEAD).kernel.shape == (184, 64)
    assert not model.get_layer("block3_conv3").trainable
    assert model.get_layer("block4_conv1").trainable


def test_visnet_s_norm_keeps_directions_and_short_lengths():
    x = np.array([[3.0, 4.0], [0.003, 0.004], [0, 0]], np.float32)
    found = BoundedNormalization()(x).numpy()
    assert np.allclose(np.linalg.norm(found, axis=1), [5 / math.sqrt(26), 0.005, 0], atol=1e-6)
    assert np.allclose(found[0] / np.linalg.norm(found[0]), [0.6, 0.8], atol=1e-6)


def test_response_normalisation_is_tensorflow_s_with_caffe_s_scale():
    import tensorflow as tf

    x = np.random.default_rng(0).standard_normal((2, 3, 3, 9)).astype(np.float32) * 40
    expected = tf.nn.local_response_normalization(x, depth_radius=2, bias=1, alpha=1e-4 / 5, beta=0.75).numpy()
    assert np.allclose(LocalResponseNormalization()(x).numpy(), expected, rtol=1e-5)
    assert not np.allclose(expected, x, rtol=1e-2)


def test_powers_keep_the_sign():
    x = np.array([[-4.0, 0.0, 9.0]], np.float32)
    assert np.allclose(PowerNormalization(0.5)(x).numpy(), [[-2, 0, 3]], atol=1e-5)


def test_depthwise_nets_stay_in_float32_on_a_cpu(monkeypatch):
    monkeypatch.setattr("tensorflow.config.get_visible_devices", lambda kind: [])
    monkeypatch.setattr("shop_similarity.training.networks.precision.cpu_multiplies_bfloat16", lambda: True)
    assert fast_policy("vgg16") == "mixed_bfloat16"
    assert fast_policy("efficientnet_lite0") == fast_policy("mobilenet") == "float32"
    assert fast_policy("efficientnet_lite0+efficientnet_lite2") == "float32"
    assert fast_policy("vgg16+efficientnet_lite0") == "mixed_bfloat16"
    monkeypatch.setattr("tensorflow.config.get_visible_devices", lambda kind: ["a GPU"])
    assert fast_policy("efficientnet_lite0") == "mixed_float16"
