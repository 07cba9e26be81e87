"""VGG19 and MobileNet against Keras's own, and what VGG19 starts from where its weights are out of reach."""

import h5py
import numpy as np
import pytest

from shop_similarity.training.networks.backbones import BACKBONES, WeightsUnavailable, find_weights, get_backbone
from shop_similarity.training.networks.backbones.sources import Pretrained, SourceError
from shop_similarity.training.networks.backbones.vgg19_sources import deepen_vgg16, identity_convolutions

CASES = {"vgg16": "VGG16", "vgg19": "VGG19", "mobilenet": "MobileNet"}


@pytest.fixture(autouse=True)
def fresh_keras():
    import keras

    keras.utils.set_random_seed(1)
    yield
    keras.backend.clear_session()


def refuses(progress):
    raise SourceError("Nothing here.")


def theirs(name):
    import keras

    model = getattr(keras.applications, CASES[name])(weights=None, include_top=False, input_shape=(64, 64, 3))
    generator = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([generator.random(weight.shape) + 0.5 for weight in layer.get_weights()])
        elif layer.weights:
            layer.set_weights(
                [
                    weight + (0.1 * generator.standard_normal(weight.shape) if weight.ndim == 1 else 0)
                    for weight in layer.get_weights()
                ]
            )
    return model


def keras_file(model, path):
    """A file in the layout of those that Keras publishes."""
    with h5py.File(path, "w") as file:
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = []
            for weight in layer.weights:
                name = f"{layer.name}/{weight.name}:0"
                group.create_dataset(name, data=np.asarray(weight.value))
                names.append(name.encode())
            group.attrs["weight_names"] = names
    return path


@pytest.mark.parametrize("name", ["vgg19", "mobilenet"])
def test_a_file_of_keras_gives_keras_s_features(name, tmp_path):
    import keras

    model = theirs(name)
    file = keras_file(model, tmp_path / f"{name}.h5")
    weights = find_weights(name, tmp_path / "cache", file)
    assert (weights.backbone, weights.source) == (name, f"the file {name}.h5")
    ours = get_backbone(name).model(64)
    weights.apply(ours)
    photos = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    expected = model(getattr(keras.applications, name).preprocess_input(photos.copy())).numpy()
    found = ours((photos - np.array(weights.mean)) / np.array(weights.std)).numpy()
    assert found.std() > 0
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    # Under Keras's names, in Keras's order.
    assert [layer.name for layer in ours.layers[1:]] == [layer.name for layer in model.layers[1:]]


@pytest.mark.parametrize("name", list(BACKBONES))
def test_taps_have_the_filters_that_the_registry_tells(name):
    import keras

    spec = get_backbone(name)
    for width in (1.0, 0.1):
        pixels = keras.Input((32, 32, 3))
        taps = spec.apply(pixels, width)
        assert tuple(taps) == spec.taps
        assert [taps[tap].shape[-1] for tap in spec.taps] == [spec.filters(tap, width) for tap in spec.taps]
        model = keras.Model(pixels, taps)
        assert all(model.get_layer(layer).output is taps[tap] for tap, layer in spec.tap_layers.items())
        assert spec.frozen_through in {layer.name for layer in model.layers}


def test_vgg19_deepened_from_vgg16_gives_exactly_its_features():
    import keras

    vgg16, vgg19 = get_backbone("vgg16"), get_backbone("vgg19")
    shallow, deep = vgg16.model(width=0.125), vgg19.model(width=0.125)
    generator = np.random.default_rng(5)
    layers = {}
    for layer in shallow.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layers[layer.name] = (kernel, 0.1 * generator.standard_normal(bias.shape).astype(np.float32))
            layer.set_weights(layers[layer.name])
    extra = identity_convolutions({"block3_conv4": 32, "block4_conv4": 64, "block5_conv4": 64})
    assert len(layers) == 13
    for name, arrays in (layers | extra).items():
        deep.get_layer(name).set_weights(arrays)
    assert len([layer for layer in deep.layers if layer.weights]) == 16
    photos = generator.standard_normal((4, 64, 64, 3)).astype(np.float32)

    def taps(model):
        return keras.Model(model.input, [model.get_layer(tap).output for tap in vgg16.taps])(photos)

    for expected, found in zip(taps(shallow), taps(deep), strict=True):
        assert expected.numpy().max() > 0
        assert np.array_equal(found.numpy(), expected.numpy())


@pytest.fixture
def vgg16_only(monkeypatch):
    """Where VGG16's weights are found and VGG19's are not."""
    model = theirs("vgg16")
    layers = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    found = Pretrained(layers, (1, 2, 3), (4, 5, 6), "a test's VGG16")
    asked = []

    def carries(progress):
        asked.append("vgg16")
        return found

    monkeypatch.setattr(get_backbone("vgg16").sources, "REMOTE", (carries,))
    monkeypatch.setattr(get_backbone("vgg19").sources, "REMOTE", (refuses,))
    return model, found, asked


@pytest.mark.long
def test_vgg19_falls_back_on_vgg16_and_says_so(vgg16_only, tmp_path):
    model, _, asked = vgg16_only
    weights = find_weights("vgg19", tmp_path)
    assert weights.backbone == "vgg19"
    assert "deepened to VGG19" in weights.source
    assert "a test's VGG16" in weights.source
    assert "not VGG19's own" in weights.source
    assert (weights.mean, weights.std) == ((1, 2, 3), (4, 5, 6))
    deep = get_backbone("vgg19").model(64)
    weights.apply(deep)
    pixels = np.random.default_rng(1).standard_normal((2, 64, 64, 3)).astype(np.float32)
    assert np.array_equal(deep(pixels).numpy(), model(pixels).numpy())
    assert find_weights("vgg19", tmp_path) == weights
    assert asked == ["vgg16"]
    # Keras's own are taken as soon as they can be had.
    own = theirs("vgg19")
    layers = {layer.name: layer.get_weights() for layer in own.layers if layer.weights}
    found = find_weights("vgg19", tmp_path, remote=[lambda progress: Pretrained(layers, (0,) * 3, (1,) * 3, "own")])
    assert found.source == "own"
    assert find_weights("vgg19", tmp_path, remote=[refuses]) == found


@pytest.mark.long
def test_vgg19_takes_a_converted_file_of_vgg16_too(vgg16_only, tmp_path):
    _, found, _ = vgg16_only
    file = find_weights("vgg16", tmp_path / "one").path
    weights = find_weights("vgg19", tmp_path / "two", file)
    assert weights.backbone == "vgg19"
    assert weights.source == deepen_vgg16(found).source


def test_weights_of_another_backbone_are_refused(vgg16_only, tmp_path):
    file = find_weights("vgg16", tmp_path).path
    with pytest.raises(WeightsUnavailable, match="weights of vgg16, not of mobilenet"):
        find_weights("mobilenet", tmp_path, file)
    with pytest.raises(ValueError, match="Unknown backbone 'resnet'"):
        find_weights("resnet", tmp_path)


def test_without_mobilenet_s_weights_the_sentence_says_what_to_do(tmp_path):
    with pytest.raises(WeightsUnavailable, match=r"No pretrained MobileNet .* mobilenet_1_0_224.* --weights FILE"):
        find_weights("mobilenet", tmp_path, remote=[refuses])


def test_a_file_of_keras_that_is_another_net_s_is_refused(tmp_path):
    file = keras_file(theirs("vgg16"), tmp_path / "vgg.h5")
    with pytest.raises(WeightsUnavailable, match="no layer block3_conv4"):
        find_weights("vgg19", tmp_path / "cache", file)
    with pytest.raises(WeightsUnavailable, match="no EfficientNet-Lite0"):
        find_weights("efficientnet_lite0", tmp_path / "cache", file)
