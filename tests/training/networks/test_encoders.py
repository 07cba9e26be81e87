"""Encoders that a shop brings along: presets of keras-hub that the test saves itself, and functions of its own."""

from __future__ import annotations

import json
import sys
import textwrap

import h5py
import numpy as np
import pytest
from PIL import Image

from shop_similarity.training import extras
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.extras import ExtraMissing
from shop_similarity.training.heads.recipe import RECIPES, trust_by_depth
from shop_similarity.training.networks.architectures import build, full_config, trunk_of
from shop_similarity.training.networks.encoders import EncoderError, EncoderSpec, open_encoder
from shop_similarity.training.networks.encoders.licences import licence_of_preset
from shop_similarity.training.networks.precision import fast_policy
from shop_similarity.training.networks.preprocessing import Preprocessing
from tests.shop_similarity.drawn_photos import KINDS, PATTERNS, product_image
from tests.training.networks.tiny_presets import OFFSET, SCALE, save_preset

needs_keras_hub = pytest.mark.skipif(
    not extras.find_spec("keras_hub"),
    reason="keras-hub is not installed: pip install --no-deps -r requirements-encoders.txt",
)


def photo_of_a_product():
    return product_image(KINDS[0], (200, 40, 30), PATTERNS[1], (320, 240))


def whole(encoder):
    config = full_config("mildnet-encoder", {**RECIPES["mildnet-encoder"].config, "encoder": encoder.spec.to_dict()})
    stored = json.loads(json.dumps(config.to_dict()))
    assert full_config("mildnet-encoder", stored) == config
    model = build(
        "mildnet-encoder", stored, Preprocessing.from_dict(json.loads(json.dumps(encoder.preprocessing.to_dict())))
    )
    encoder.apply(model)
    return config, model


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    return save_preset(tmp_path_factory.mktemp("presets") / "dinov2_tiny", "dinov2", "apache-2.0")


@needs_keras_hub
def test_a_preset_is_tapped_at_several_depths_and_built_anew_from_plain_values(dinov2):
    import keras
    import keras_hub

    encoder = open_encoder(f"keras-hub:{dinov2}")
    assert encoder.spec.taps == (("layer1", 16), ("layer2", 16), ("class_token", 16))
    assert encoder.spec.licence == "apache-2.0"
    assert encoder.source == "keras-hub preset dinov2_tiny, licence: apache-2.0"
    config, model = whole(encoder)
    assert config.tap_lengths == {"layer1": 16, "layer2": 16, "class_token": 16, "colour": 486}
    trunk = trunk_of("mildnet-encoder", config.to_dict())
    assert fast_policy(trunk) == "float32"
    assert trunk.layer_names() == ["encoder"]
    assert not any(weight.trainable for weight in model.get_layer("encoder").weights)
    # What the taps say is what keras-hub's own network says of the same pixels, by hand.
    theirs = keras_hub.models.Backbone.from_preset(str(dinov2))
    photo = encoder.preprocessing.prepare(photo_of_a_product())[None].astype("float32")
    pixels = photo * np.float32(SCALE) + np.float32(OFFSET)
    tokens = np.asarray(theirs(pixels))
    between = keras.Model(theirs.inputs, theirs.pyramid_outputs["stage1"])
    first = np.asarray(theirs.layernorm(between(pixels)))
    expected = [first[:, 3:].mean(axis=1), tokens[:, 3:].mean(axis=1), tokens[:, 0]]
    features = np.asarray(keras.Model(model.input, model.get_layer("features").output)(photo))[:, :48]
    powered = [np.sign(tap) * np.abs(tap) ** 0.8 for tap in expected]
    powered = np.concatenate([tap / np.linalg.norm(tap, axis=1, keepdims=True) for tap in powered], axis=1)
    np.testing.assert_allclose(features, powered, atol=2e-5)


@needs_keras_hub
@pytest.mark.long
def test_weights_that_fit_other_sizes_take_another(dinov2):
    encoder = open_encoder(f"keras-hub:{dinov2}", size=64, licence="mine")
    assert (encoder.preprocessing.size, encoder.spec.options["image_shape"]) == (64, [64, 64, 3])
    assert encoder.spec.licence == "mine"
    assert whole(encoder)[1](np.zeros((1, 64, 64, 3))).shape == (1, 4096)


@needs_keras_hub
@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "taps"),
    [
        ("clip", ["layer1", "layer2", "class_token"]),
        ("siglip", ["layer1", "layer2", "pooled"]),
        ("vit", ["layer1", "layer2", "class_token"]),
        ("dinov3", ["layer1", "layer2", "class_token"]),
        ("efficientnet", ["p2", "p3"]),
        ("densenet", ["p2", "p3", "p4", "top"]),
        ("resnet", ["p2", "p3", "p4", "p5"]),
    ],
)
def test_towers_of_each_kind_give_the_preset_s_numbers_after_being_stored(kind, taps, tmp_path):
    encoder = open_encoder(f"keras-hub:{save_preset(tmp_path / kind, kind)}")
    assert [tap for tap, _ in encoder.spec.taps] == taps
    assert encoder.spec.licence == "not stated"
    _, model = whole(encoder)
    model.save_weights(tmp_path / "model.weights.h5")
    again = build("mildnet-encoder", whole(encoder)[0].to_dict(), encoder.preprocessing)
    again.load_weights(tmp_path / "model.weights.h5")
    photos = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(again(photos), model(photos), atol=1e-6)
    if kind in ("clip", "siglip", "vit"):
        with pytest.raises(EncoderError, match="leave out --size"):
            open_encoder(f"keras-hub:{tmp_path / kind}", size=64)


@needs_keras_hub
@pytest.mark.parametrize(
    ("interpolation", "antialias"),
    [
        ("nearest", False),
        ("bilinear", False),
        ("bilinear", True),
        ("bicubic", False),
        ("bicubic", True),
        ("lanczos3", True),
    ],
)
@pytest.mark.parametrize("mode", ["squash", "crop"])
def test_photos_are_made_ready_as_the_preset_s_converter_does(interpolation, antialias, mode):
    import keras_hub

    from shop_similarity.training.networks.encoders.presets import preprocessing_of

    converter = keras_hub.layers.ImageConverter(
        image_size=(48, 48),
        scale=SCALE,
        offset=OFFSET,
        interpolation=interpolation,
        antialias=antialias,
        crop_to_aspect_ratio=mode == "crop",
    )
    photo = photo_of_a_product().convert("RGB").resize((311, 173))
    ours = preprocessing_of(converter)
    assert ours.resize == mode
    pixels = (ours.prepare(photo).astype("float32") - ours.mean) / ours.std
    theirs = np.asarray(converter(np.asarray(photo, "float32")[None]))[0]
    difference = np.abs(pixels - theirs) / SCALE
    # Ours are whole numbers of 0..255 in between, and Pillow's filters have whole shares.
    assert difference.mean() < 0.6
    assert np.quantile(difference, 0.99) < 2.5


@needs_keras_hub
def test_wrong_preprocessing_would_be_noticed_by_the_test_above():
    """Had the converter's crop, or its colours' order, been overlooked, the difference would be ten times as large."""
    photo = photo_of_a_product().convert("RGB").resize((311, 173))
    right = Preprocessing(size=48, resize="crop").prepare(photo).astype(float)
    for wrong in (Preprocessing(size=48).prepare(photo), right[..., ::-1]):
        assert np.abs(right - wrong).mean() > 6


def test_blue_first_is_turned_round_within_the_model():
    import keras

    from shop_similarity.training.networks.architectures.parts import photos_and_pixels

    photos = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3)).astype("float32")
    rgb, bgr = (
        np.asarray(keras.Model(*photos_and_pixels(Preprocessing(size=8, channels=channels)))(photos))
        for channels in ("RGB", "BGR")
    )
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])


@needs_keras_hub
@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("config.json", {"class_name": "BertBackbone"}, "can't be used as an encoder"),
        ("config.json", {"module": "os", "registered_name": None}, "no part of an image tower"),
        (
            "config.json",
            {"config": {"image_shape": {"module": "os", "class_name": "system", "config": {"command": "true"}}}},
            "no part of an image tower",
        ),
        ("image_converter.json", {"module": "subprocess", "class_name": "Popen"}, "names no image converter"),
        (
            "image_converter.json",
            {"config": {"scale": {"module": "os", "class_name": "system", "config": {}}}},
            "with a system in it",
        ),
    ],
)
def test_presets_that_name_other_things_are_not_loaded(dinov2, tmp_path, monkeypatch, file, change, sentence):
    import keras

    for name in ("config.json", "image_converter.json"):
        content = json.loads((dinov2 / name).read_text())
        (tmp_path / name).write_text(json.dumps({**content, **change} if name == file else content))
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", lambda *args, **kwargs: pytest.fail("Keras saw it"))
    with pytest.raises(EncoderError, match=sentence):
        open_encoder(f"keras-hub:{tmp_path}")


@needs_keras_hub
def test_weights_that_point_out_of_the_preset_are_not_opened(dinov2, tmp_path):
    for name in ("config.json", "image_converter.json"):
        (tmp_path / name).write_text((dinov2 / name).read_text())
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(EncoderError, match="points somewhere else"):
        open_encoder(f"keras-hub:{tmp_path}")


@needs_keras_hub
def test_a_preset_without_its_converter_is_refused(dinov2, tmp_path):
    for name in ("config.json", "model.weights.h5"):
        (tmp_path / name).write_bytes((dinov2 / name).read_bytes())
    with pytest.raises(EncoderError, match="preset"):
        open_encoder(f"keras-hub:{tmp_path}")


def test_without_keras_hub_the_sentence_names_the_extra(monkeypatch):
    spec = {
        "builder": "keras-hub",
        "name": "DINOV2Backbone",
        "taps": [["a", 4]],
        "options": {},
        "licence": "",
        "source": "",
    }
    found = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "keras_hub" else found(name))
    for attempt in (lambda: EncoderSpec.from_dict(spec).build(), lambda: open_encoder("keras-hub:dinov2_small")):
        with pytest.raises(ExtraMissing, match=r"needs keras_hub.*\[worker,encoders\]"):
            attempt()


SPEC = {"builder": "python", "name": "a.b", "taps": [["a", 4]], "options": {}, "licence": "", "source": ""}


@pytest.mark.parametrize(
    "wrong",
    [
        {"builder": "pickle"},
        {"taps": []},
        {"taps": [["a", 0]]},
        {"taps": [["a", 1], ["a", 2]]},
        {"taps": 7},
        {"options": {"a": {"class_name": "Lambda"}}},
        {"options": {"a": "x" * 65}},
        {"options": []},
        {"licence": None},
        {"code": "print()"},
    ],
)
def test_what_is_no_description_of_an_encoder_is_refused(wrong):
    with pytest.raises(ValueError):
        full_config("mildnet-encoder", {"encoder": SPEC | wrong})


def test_encoder_and_backbone_belong_together():
    for architecture, config in (
        ("mildnet-encoder", {}),
        ("mildnet", {"encoder": SPEC}),
        ("mildnet", {"backbone": "encoder"}),
    ):
        with pytest.raises(ValueError, match="belong together"):
            full_config(architecture, config)


def test_licences_of_keras_hub_s_own_presets_are_known_by_their_names():
    assert licence_of_preset("dinov2_small") == "Apache-2.0"
    assert licence_of_preset("kaggle://keras/dinov3/keras/dinov3_vit_small_lvd1689m/1") == "DINOv3 License"
    assert licence_of_preset("hf://someone/dinov2_small") is None
    assert licence_of_preset("kaggle://keras/") is None


def test_trust_grows_evenly():
    assert trust_by_depth(["a", "b", "c"]) == pytest.approx({"a": 0.3, "b": 0.65, "c": 1.0})
    assert trust_by_depth(["a"]) == {"a": 1.0}


OWN = """
    import keras
    from shop_similarity.training.networks.encoders import Encoder, Preprocessing

    def small(pretrained):
        pixels = keras.Input((16, 16, 3))
        edges = keras.layers.Conv2D(4, 3, activation="relu", name="edges")(pixels)
        things = keras.layers.Conv2D(8, 3, 2, activation="relu", name="things")(edges)
        network = keras.Model(pixels, things)
        taps = {"edges": "edges", "things": things, "all": keras.ops.mean(things, axis=(1, 2))}
        return Encoder(network, taps, Preprocessing(size=16), "ours", "drawn numbers")

    def another(pretrained):
        encoder = small(pretrained)
        return encoder if pretrained else Encoder(encoder.network, {"edges": "edges"}, Preprocessing(size=16), "", "")

    def tokens(pretrained):
        pixels = keras.Input((16, 16, 3))
        network = keras.Model(pixels, keras.layers.Reshape((256, 3), name="tokens")(pixels))
        return Encoder(network, {"tokens": "tokens"}, Preprocessing(size=16), "", "")

    def broken(pretrained):
        raise RuntimeError("no such file")

    def nothing(pretrained):
        return None

    def without():
        return None
"""


@pytest.fixture
def own(tmp_path, monkeypatch, settings):
    (tmp_path / "shop_networks.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    names = ("small", "another", "tokens", "broken", "nothing", "without", "absent")
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "ENCODERS": ("shop_nowhere.small", *(f"shop_networks.{name}" for name in names)),
    }
    yield
    sys.modules.pop("shop_networks", None)


def test_a_function_of_the_shop_s_is_an_encoder(own):
    encoder = open_encoder("shop_networks.small")
    assert encoder.spec.taps == (("edges", 4), ("things", 8), ("all", 8))
    assert (encoder.spec.builder, encoder.source) == ("python", "drawn numbers, licence: ours")
    _, model = whole(encoder)
    photo = Image.new("RGB", (20, 20), (200, 10, 10))
    pixels = (encoder.preprocessing.prepare(photo)[None] - np.float32(encoder.mean)) / np.float32(encoder.std)
    for ours, theirs in zip(model.get_layer("encoder").network(pixels), encoder.network(pixels), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("os.system", "not one that the settings name"),
        ("shop_nowhere.small", "can't be imported"),
        ("shop_networks.absent", "can't be imported"),
        ("shop_networks.without", "argument pretrained"),
        ("shop_networks.broken", "RuntimeError: no such file"),
        ("shop_networks.nothing", "must return an Encoder"),
        ("shop_networks.tokens", "Pool tokens"),
    ],
)
def test_functions_that_make_no_encoder_are_refused(own, path, sentence):
    with pytest.raises(EncoderError, match=sentence):
        open_encoder(path)


def test_a_stored_path_that_the_settings_do_not_name_is_never_imported(tmp_path, monkeypatch, settings):
    (tmp_path / "shop_trap.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderError, match="not one that the settings name"):
        build("mildnet-encoder", {"encoder": SPEC | {"name": "shop_trap.small"}}, Preprocessing(size=16))
    assert "shop_trap" not in sys.modules


def test_a_function_that_builds_another_network_later_is_noticed(own):
    encoder = open_encoder("shop_networks.another")
    with pytest.raises(TrainingError, match="other taps than when the version was made"):
        whole(encoder)
