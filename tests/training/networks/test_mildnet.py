import numpy as np
import pytest

from shop_similarity.training.networks.architectures import build, mildnet
from shop_similarity.training.networks.architectures.mildnet import FEATURES, HEAD, PAPER, MildnetConfig, feature_model
from shop_similarity.training.networks.precision import cpu_multiplies_bfloat16, dtype_policy
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.runner import extract

SMALL = {"width": 0.125, "embedding_dim": 64}
SIZE = Preprocessing(size=32)


def photos(count=3, seed=0, size=32):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def fresh_keras():
    import keras

    keras.utils.set_random_seed(1)
    yield keras
    keras.backend.clear_session()


def test_the_paper_s_form_has_the_paper_s_parameters(fresh_keras):
    model = build("mildnet", PAPER.to_dict(), Preprocessing())
    assert model.count_params() == 21_927_744
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 20_192_256
    assert model.output_shape == (None, 2048)


def test_ours_is_one_linear_map_of_1472_features_to_4096(fresh_keras):
    model = build("mildnet", {}, Preprocessing())
    assert model.get_layer(FEATURES).output.shape == (None, 1472)
    assert model.get_layer(HEAD).kernel.shape == (1472, 4096)
    assert model.get_layer(HEAD).activation.__name__ == "linear"
    assert model.output_shape == (None, 4096)


def test_layers_are_named_and_ordered_as_in_keras_s_own_vgg16(fresh_keras):
    import keras

    theirs = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    ours = build("mildnet", SMALL, SIZE)
    named = [layer.name for layer in ours.layers if layer.name.startswith("block") and layer.name.count("_") == 1]
    assert named == [layer.name for layer in theirs.layers if layer.name.startswith("block")]


@pytest.mark.parametrize("options", [{}, {"pooling": "gem"}, {"pooling": "max"}, {"tap_power": 0.5}, {"hidden": [16]}])
def test_embeddings_have_length_one_whatever_the_input_type(fresh_keras, options):
    model = build("mildnet", SMALL | options, SIZE)
    from_bytes = model(photos()).numpy()
    assert from_bytes.dtype == np.float32
    assert np.allclose(np.linalg.norm(from_bytes, axis=1), 1, atol=1e-5)
    assert np.array_equal(from_bytes, model(photos().astype(np.float32)).numpy())


def test_pixels_are_normalised_inside_the_model(fresh_keras):
    model = build("mildnet", SMALL, Preprocessing(size=32, mean=(10, 20, 30), std=(2, 4, 5)))
    normalised = fresh_keras.Model(model.input, model.get_layer("normalisation").output)(photos()).numpy()
    assert np.allclose(normalised, (photos() - np.array([10, 20, 30])) / np.array([2, 4, 5]), atol=1e-5)


def test_every_tap_counts_the_same_and_is_pooled_from_its_block(fresh_keras):
    model = build("mildnet", SMALL | {"taps": ["block5_pool", "block2_pool"]}, SIZE)
    pixels = photos()
    blocks = fresh_keras.Model(model.input, [model.get_layer(f"block{n}_pool").output for n in (5, 2)])(pixels)
    expected = [block.numpy().mean(axis=(1, 2)) for block in blocks]
    expected = np.concatenate([rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in expected], axis=1)
    assert np.allclose(feature_model(model)(pixels).numpy(), expected, atol=1e-5)


def test_gem_lies_between_average_and_maximum(fresh_keras):
    x = np.abs(np.random.default_rng(0).standard_normal((2, 4, 4, 3))).astype(np.float32)
    gem = mildnet.GeneralizedMeanPooling2D(3.0)(x).numpy()
    assert np.allclose(gem, np.mean(x.astype(np.float64) ** 3, axis=(1, 2)) ** (1 / 3), atol=1e-5)
    assert np.all(x.mean(axis=(1, 2)) < gem)
    assert np.all(gem < x.max(axis=(1, 2)))


def test_a_black_photo_gives_no_nan(fresh_keras):
    model = build("mildnet", SMALL | {"tap_power": 0.5, "pooling": "gem"}, Preprocessing(size=32, mean=(0, 0, 0)))
    assert np.isfinite(model(np.zeros((1, 32, 32, 3), np.uint8)).numpy()).all()


def test_a_whole_model_file_can_be_loaded_without_its_builder(fresh_keras, tmp_path):
    model = build("mildnet", SMALL | {"pooling": "gem", "tap_power": 0.5}, SIZE)
    model.save(tmp_path / "model.keras")
    loaded = fresh_keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert np.allclose(loaded(photos()).numpy(), model(photos()).numpy(), atol=1e-6)


def test_mixed_precision_leaves_pooling_and_head_in_float32(fresh_keras):
    with dtype_policy("mixed_bfloat16"):
        mixed = build("mildnet", SMALL, SIZE)
    plain = build("mildnet", SMALL, SIZE)
    plain.set_weights(mixed.get_weights())
    assert mixed.get_layer("block5_conv3").compute_dtype == "bfloat16"
    assert mixed.get_layer(HEAD).compute_dtype == "float32"
    assert mixed(photos()).dtype == "float32"
    assert np.sum(mixed(photos()).numpy() * plain(photos()).numpy(), axis=1).min() > 0.995
    assert fresh_keras.config.dtype_policy().name == "float32"


def test_extraction_pads_the_last_batch_and_keeps_the_order(fresh_keras):
    model = build("mildnet", SMALL, SIZE)
    many = photos(11)
    seen = []
    rows = extract(model, iter(many), batch_size=4, progress=seen.append)
    assert seen == [4, 8, 11]
    assert np.allclose(rows, model(many).numpy(), atol=1e-5)
    assert extract(model, [], batch_size=4).shape == (0, 64)


def test_config_round_trip():
    assert MildnetConfig.from_dict(PAPER.to_dict()) == PAPER
    assert MildnetConfig().feature_dim == 1472
    assert MildnetConfig(taps=("block5_pool",), width=0.125).feature_dim == 64


@pytest.mark.parametrize(
    "options",
    [
        {"taps": ["block6_pool"]},
        {"taps": []},
        {"taps": ["block5_pool", "block5_pool"]},
        {"pooling": "median"},
        {"gem_power": 0},
        {"dropout": 1},
        {"embedding_dim": 0},
        {"hidden": [0]},
        {"frozen_through": "block9"},
        {"backbone": "resnet"},
        {"layers": 3},
    ],
)
def test_options_that_cannot_be_built_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build("mildnet", SMALL | options, SIZE)


def test_unknown_architectures_are_refused():
    with pytest.raises(
        ValueError, match="Known: mildnet, mildnet-encoder, mildnet-joined, mildnet-lite, mildnet-lite2,"
    ):
        build("resnet", {}, SIZE)


def test_bfloat16_is_only_used_where_the_cpu_has_it(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("flags\t\t: fpu avx2 avx512_bf16\n")
    assert cpu_multiplies_bfloat16(info)
    info.write_text("flags\t\t: fpu avx2 avx512f\n")
    assert not cpu_multiplies_bfloat16(info)
    assert not cpu_multiplies_bfloat16(tmp_path / "none")
