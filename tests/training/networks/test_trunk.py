"""Two backbones below one head: names, normalisation, freezing and weights of each."""

import keras
import numpy as np
import pytest

from shop_similarity.training.networks.architectures import HEAD, build, feature_model, full_config
from shop_similarity.training.networks.architectures.parts import freeze
from shop_similarity.training.networks.backbones import (
    BackboneWeights,
    WeightsUnavailable,
    find_trunk_weights,
    get_backbone,
    get_trunk,
)
from shop_similarity.training.networks.backbones.trunk import PixelNormalization
from shop_similarity.training.networks.precision import dtype_policy
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.splitting import split

JOINED = "vgg16+efficientnet_lite0"
SMALL = {"width": 0.0625, "embedding_dim": 64}
SIZE = Preprocessing(size=32, mean=(100, 110, 120), std=(50, 51, 52))
PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def joined():
    """A shrunk one. Tests may freeze its layers and give it weights."""
    keras.utils.set_random_seed(1)
    yield build("mildnet-joined", SMALL, SIZE)
    keras.backend.clear_session()


def frozen(model, through, lite=False):
    """The convolutions of one network that are frozen, and those that are not."""
    for layer in model.layers:
        layer.trainable = True
    freeze(model, get_trunk(JOINED), through)
    layers = [
        layer
        for layer in model.layers
        if layer.name.startswith("efficientnet_lite0_") == lite and "conv" in layer.name and layer.weights
    ]
    return {layer.name for layer in layers if not layer.trainable}, {layer.name for layer in layers if layer.trainable}


def test_it_joins_1472_and_1776_numbers():
    config = full_config("mildnet-joined", {})
    assert (config.feature_dim, config.embedding_dim) == (1472 + 1776, 4096)
    assert list(config.tap_lengths.items())[4:7] == [
        ("block5_pool", 512),
        ("efficientnet_lite0_block2", 24),
        ("efficientnet_lite0_block3", 40),
    ]


def test_each_network_sees_the_photo_as_its_weights_expect_it_and_adds_what_it_gives_alone(joined):
    model = joined
    model.get_layer("efficientnet_lite0_normalisation").set_weights([np.full(3, 127.0), np.full(3, 128.0)])
    found = feature_model(model)(PHOTOS).numpy()
    start = 0
    for name, preprocessing, prefix in (
        ("mildnet", SIZE, ""),
        ("mildnet-lite", Preprocessing(size=32, mean=(127,) * 3, std=(128,) * 3), "efficientnet_lite0_"),
    ):
        alone = build(name, SMALL, preprocessing)
        for layer in alone.layers:
            if layer.weights and layer.name != HEAD:
                layer.set_weights(model.get_layer(prefix + layer.name).get_weights())
        expected = feature_model(alone)(PHOTOS).numpy()
        assert np.allclose(found[:, start : start + expected.shape[1]], expected, atol=1e-5)
        start += expected.shape[1]
    assert start == found.shape[1]


def test_a_normalisation_s_numbers_are_weights_and_never_trained():
    layer = PixelNormalization()
    x = np.float32([[[[130, 140, 150]]]])
    layer(x)
    assert layer.trainable_weights == []
    layer.set_weights([np.float32([10, 20, 30]), np.float32([2, 4, 5])])
    assert np.allclose(layer(x).numpy(), [60, 30, 24])


def test_training_leaves_the_other_network_alone(joined):
    stays, trained = frozen(joined, "default")
    assert trained == {f"block{block}_conv{number}" for block in (4, 5) for number in (1, 2, 3)} and stays
    assert not frozen(joined, "default", lite=True)[1]
    assert frozen(joined, "block4_pool")[1] == {f"block5_conv{number}" for number in (1, 2, 3)}
    assert not frozen(joined, "block4_pool", lite=True)[1]
    assert frozen(joined, "efficientnet_lite0_block7", lite=True)[1] == {"efficientnet_lite0_top_conv"}
    assert not frozen(joined, "efficientnet_lite0_block7")[1]
    assert not frozen(joined, "efficientnet_lite0_normalisation", lite=True)[0]
    assert not frozen(joined, "efficientnet_lite0_normalisation")[1]
    for lite in (False, True):
        assert not frozen(joined, "efficientnet_lite0_top", lite)[1]
        assert not frozen(joined, None, lite)[0]
    with pytest.raises(ValueError, match=r"efficientnet_lite0_block2.*'efficientnet_lite0_block9'"):
        frozen(joined, "efficientnet_lite0_block9")


def test_what_is_below_a_block_is_in_the_same_network(joined):
    trunk = get_trunk(JOINED)
    assert trunk.below("block5_pool") == "block4_pool"
    assert trunk.below("block1_pool") == "normalisation"
    assert trunk.below("efficientnet_lite0_block2") == "efficientnet_lite0_block1"
    assert trunk.below("efficientnet_lite0_stem") == "efficientnet_lite0_normalisation"
    assert get_trunk("vgg16").below("block1_pool") is None
    names = {layer.name for layer in joined.layers}
    assert {"normalisation", "efficientnet_lite0_normalisation"} <= names
    assert set(trunk.layer_names()) - names == {"pixels", "efficientnet_lite0_pixels"}


def test_a_split_below_one_network_s_last_block_keeps_both_networks_numbers(joined):
    frozen(joined, "block4_pool")
    parts = split(joined)
    # Four pooled taps of VGG16 and five of the other, and the map that block 5 goes on from.
    assert sorted(len(shape) for shape in parts.shapes) == [1] * 9 + [3]
    found = parts.trainable(parts.features(PHOTOS), training=False).numpy()
    assert np.allclose(found, joined(PHOTOS, training=False).numpy(), atol=1e-6)


def test_bfloat16_is_for_the_network_that_it_makes_faster():
    for policy, expected in (("mixed_bfloat16", "float32"), ("mixed_float16", "float16")):
        with dtype_policy(policy):
            photos = keras.Input((32, 32, 3))
            taps = get_trunk(JOINED).apply(photos, photos, 0.01)
        vgg16, lite = (taps[name]._keras_history.operation for name in ("block5_pool", "efficientnet_lite0_stem"))
        assert (vgg16.compute_dtype, lite.compute_dtype) == (policy.removeprefix("mixed_"), expected)


@pytest.mark.parametrize(
    ("backbone", "message"), [("vgg16+vgg16", "joined to itself"), ("vgg16+resnet", "'resnet'"), ("+vgg16", "''")]
)
def test_networks_that_cannot_be_joined_are_refused(backbone, message):
    with pytest.raises(ValueError, match=message):
        build("mildnet", {"backbone": backbone}, SIZE)


def test_the_comparison_models_have_one_network():
    with pytest.raises(ValueError, match=r"Unknown backbone 'vgg16\+vgg19'"):
        build("ranknet", {"backbone": "vgg16+vgg19"}, SIZE)


def test_any_others_can_be_joined():
    config = full_config("mildnet", {"backbone": "mobilenet+vgg19+vgg16", "width": 0.01, "pooling": "gem"})
    assert config.taps[4:6] == ("pair13", "vgg19_block1_pool")
    assert build("mildnet", config.to_dict(), SIZE).count_params()


@pytest.fixture
def found(monkeypatch):
    """Weights of the right names in shapes of an eighth: numbers of the networks' own initialisation."""
    asked = []

    def find(backbone, cache, file=None, progress=None):
        asked.append((backbone, file))
        return Small(None, backbone[0] * 64, (len(backbone),) * 3, (2.0,) * 3, f"{backbone}'s", backbone)

    monkeypatch.setattr("shop_similarity.training.networks.backbones.weights.find_weights", find)
    return asked


class Small(BackboneWeights):
    def load(self):
        return get_backbone(self.backbone).model(32, SMALL["width"])


def test_the_weights_of_both_reach_their_layers(joined, found, tmp_path):
    weights = find_trunk_weights(JOINED, tmp_path)
    assert [name for name, _ in found] == ["vgg16", "efficientnet_lite0"]
    assert (weights.mean, weights.std) == ((5,) * 3, (2.0,) * 3)
    assert weights.source == "vgg16's; efficientnet_lite0's"
    assert weights.sha256 == f"{'v' * 64}+{'e' * 64}"
    model = joined
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    weights.apply(model)
    unchanged = {
        name for name, arrays in before.items() if all(map(np.array_equal, arrays, model.get_layer(name).get_weights()))
    }
    # Batch normalisations are fresh on both sides.
    assert {name for name in unchanged if not name.endswith("_bn")} == {HEAD}
    mean, std = model.get_layer("efficientnet_lite0_normalisation").get_weights()
    assert (list(mean), list(std)) == ([18] * 3, [2] * 3)


def test_named_files_are_one_for_each_network(found, tmp_path):
    find_trunk_weights(JOINED, tmp_path, ["a", "b"])
    assert found == [("vgg16", "a"), ("efficientnet_lite0", "b")]
    with pytest.raises(WeightsUnavailable, match=r"VGG16 and EfficientNet-Lite0 are 2 files, and --weights names 1"):
        find_trunk_weights(JOINED, tmp_path, ["a"])
    with pytest.raises(WeightsUnavailable, match=r"VGG16 are 1 files, and --weights names 2"):
        find_trunk_weights("vgg16", tmp_path, ["a", "b"])
