"""Files of weights that are not what they seem, and numbers that are none."""

from __future__ import annotations

import json
import os
import shutil
import stat

import h5py
import keras
import numpy as np
import pytest

from shop_similarity.training.networks.backbones import get_backbone
from shop_similarity.training.networks.backbones.weights import WeightsUnavailable, find_weights
from shop_similarity.training.networks.weights_files import WeightsFileError, check_weights_file, load_checked


def _model() -> keras.Model:
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="first")(pixels)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(pixels, keras.layers.Dense(5, name="last")(x))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.weights.h5"
    _model().save_weights(path)
    return path


def test_what_keras_writes_is_taken(file):
    check_weights_file(file)
    load_checked(_model(), file)


def _external_link(content):
    content["away"] = h5py.ExternalLink("/etc/passwd", "/")


def _soft_link(content):
    content["away"] = h5py.SoftLink("/layers")


def _external_storage(content):
    content.create_dataset("away", (8,), "u1", external=[("/etc/hostname", 0, 8)])


def _virtual(content):
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (8,))
    content.create_virtual_dataset("away", layout)


def _compressed(content):
    content.create_dataset("bomb", data=np.zeros(1_000_000, np.float32), compression="gzip")


def _never_written(content):
    content.create_dataset("bomb", (1 << 40,), "f4", chunks=(1024,))


def _reference(content):
    content.create_dataset("reference", data=content.ref, dtype=h5py.ref_dtype)


def _text(content):
    content.create_dataset("text", data="import os")


def _circle(content):
    content["layers/again"] = content["/"]


TRICKS = [
    (_external_link, "points somewhere else"),
    (_soft_link, "points somewhere else"),
    (_external_storage, "another file"),
    (_virtual, "another file"),
    (_compressed, "compressed or not all there"),
    (_never_written, "compressed or not all there"),
    (_reference, "something else than numbers"),
    (_text, "something else than numbers"),
    (_circle, "more parts than any network"),
]


@pytest.mark.parametrize(("trick", "sentence"), TRICKS, ids=[trick.__name__ for trick, _ in TRICKS])
def test_a_file_that_is_more_than_arrays_is_refused(file, trick, sentence):
    with h5py.File(file, "r+") as content:
        trick(content)
    with pytest.raises(WeightsFileError, match=sentence):
        load_checked(_model(), file)


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + b"\xff" * 500])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "other.weights.h5"
    path.write_bytes(content)
    with pytest.raises(WeightsFileError, match="can't be read as HDF5"):
        check_weights_file(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["first", "norm", "last"])
def test_a_number_that_is_none_is_refused_by_the_name_of_its_layer(tmp_path, name, value):
    model = _model()
    weights = model.get_layer(name).get_weights()
    weights[-1][0] = value
    model.get_layer(name).set_weights(weights)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    with pytest.raises(WeightsFileError, match=f"layer {name} holds numbers that are not finite"):
        load_checked(_model(), path)


def test_another_model_s_file_is_refused(file):
    pixels = keras.Input((8, 8, 3))
    other = keras.Model(pixels, keras.layers.Conv2D(9, 3)(pixels))
    with pytest.raises(WeightsFileError, match="do not fit"):
        load_checked(other, file)


def test_a_file_that_lacks_a_layer_leaves_none_with_the_numbers_that_it_was_made_with(file):
    with h5py.File(file, "r+") as content:
        del content["layers/dense"]
    with pytest.raises(WeightsFileError, match="do not fit"):
        load_checked(_model(), file)


# --- converted files that are named with --weights ---

ABOUT = {"mean": [1, 2, 3], "std": [1, 1, 1], "source": "a test", "backbone": "efficientnet_lite0"}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "named.weights.h5"
    get_backbone("efficientnet_lite0").model().save_weights(path)
    _describe(path, ABOUT)
    return path


def _describe(path, about) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["shop_similarity"] = about if isinstance(about, str) else json.dumps(about)


def _copy(backbone, tmp_path, name="named.weights.h5"):
    return shutil.copy(backbone, tmp_path / name)


def test_a_converted_file_is_taken(backbone, tmp_path):
    assert find_weights("efficientnet_lite0", tmp_path, backbone).source == "a test"


def test_a_converted_file_with_one_number_that_is_none_is_refused_by_the_name_of_its_layer(backbone, tmp_path):
    path = tmp_path / "nan.weights.h5"
    model = get_backbone("efficientnet_lite0").model()
    layer = model.get_layer("block3a_project_conv")
    (kernel,) = layer.get_weights()
    kernel.flat[7] = np.nan
    layer.set_weights([kernel])
    model.save_weights(path)
    _describe(path, ABOUT)
    with pytest.raises(WeightsUnavailable, match="layer block3a_project_conv holds numbers that are not finite"):
        find_weights("efficientnet_lite0", tmp_path, path)


def test_a_converted_file_whose_name_says_another_hash_is_refused(backbone, tmp_path):
    path = _copy(backbone, tmp_path, "efficientnet_lite0-imagenet-0123456789abcdef.weights.h5")
    with pytest.raises(WeightsUnavailable, match="SHA-256 is not the one in its name"):
        find_weights("efficientnet_lite0", tmp_path / "cache", path)


@pytest.mark.parametrize(
    "about",
    [
        "no JSON",
        "[1]",
        {**ABOUT, "mean": [1, 2]},
        '{"mean": [NaN, 1, 1], "std": [1, 1, 1], "source": "x", "backbone": "efficientnet_lite0"}',
        {**ABOUT, "std": [0, 1, 1]},
        {**ABOUT, "mean": None},
        {**ABOUT, "backbone": "../../other"},
        {"mean": [1, 2, 3]},
    ],
    ids=str,
)
def test_a_converted_file_that_says_nonsense_of_itself_is_refused(backbone, tmp_path, about):
    path = _copy(backbone, tmp_path)
    _describe(path, about)
    with pytest.raises(WeightsUnavailable, match="normalisation and source can't be read"):
        find_weights("efficientnet_lite0", tmp_path / "cache", path)


def test_a_converted_file_that_is_exchanged_after_it_was_looked_at_is_refused(backbone, tmp_path):
    path = _copy(backbone, tmp_path)
    weights = find_weights("efficientnet_lite0", tmp_path / "cache", path)
    _describe(path, {**ABOUT, "source": "another"})
    with pytest.raises(WeightsUnavailable, match="changed since it was looked at"):
        weights.apply(get_backbone("efficientnet_lite0").model())


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_converted_weights_are_their_owner_s_alone(tmp_path):
    from shop_similarity.training.networks.backbones.sources import Pretrained

    model = get_backbone("efficientnet_lite0").model()
    layers = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    pretrained = Pretrained(layers, (1, 2, 3), (1, 1, 1), "a test")
    before = os.umask(0o022)
    try:
        found = find_weights("efficientnet_lite0", tmp_path / "cache", remote=[lambda progress: pretrained])
    finally:
        os.umask(before)
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(found.path.parent.stat().st_mode) == 0o700
