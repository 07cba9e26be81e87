"""Reading the arrays of numbers out of an ONNX file, without onnx and without protobuf.

A file is one message ``ModelProto``, the graph its field 7, the graph's initializers their field 5, each a
``TensorProto``: shape 1, type 2, name 8, bytes 9 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). All else is
skipped: neither is the graph run nor does anything in the file name code or another file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_GRAPH, _INITIALIZER = 7, 5
_SHAPE, _TYPE, _NAME, _BYTES = 1, 2, 8, 9
_FLOAT = 1
# Wire types of protobuf: a number, eight bytes, so many bytes as a number before them says, four bytes.
_NUMBER, _EIGHT, _SOME, _FOUR = 0, 1, 2, 5
# A number has at most 64 bits, seven in each byte.
_LONGEST_NUMBER = 10


class OnnxError(ValueError):
    """The bytes are no ONNX file of plain arrays of 32-bit numbers; the sentence has no full stop."""


def read_initializers(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a graph by name, ``float32``, in the order in which they stand in the file.

    Raises:
        OnnxError: the bytes are cut off or no such file, or an array is of another type or lies in another file.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, graph in _fields(memoryview(content)):
        if number == _GRAPH:
            for part, tensor in _fields(_message(graph)):
                if part == _INITIALIZER:
                    name, array = _array(_message(tensor))
                    arrays[name] = array
    if not arrays:
        raise OnnxError("it holds no arrays")
    return arrays


def _array(tensor: memoryview) -> tuple[str, np.ndarray]:
    shape: list[int] = []
    kind, name, content = 0, "", memoryview(b"")
    for number, value in _fields(tensor):
        if number == _SHAPE and isinstance(value, int):
            shape.append(value)
        elif number == _SHAPE:
            shape += _numbers(_message(value))
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME:
            name = bytes(_message(value)).decode("utf-8", "replace")
        elif number == _BYTES:
            content = _message(value)
    # Before anything is made of that length: what a file says of itself is not what it holds.
    if kind != _FLOAT or len(content) != 4 * math.prod(shape):
        raise OnnxError(f"its array {name!r} is no array of 32-bit numbers, or not all there")
    return name, np.frombuffer(content, "<f4").reshape(shape)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise OnnxError("it has a number where a part should be")
    return value


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    place = 0
    while place < len(content):
        key, place = _number(content, place)
        wire = key & 7
        if wire == _NUMBER:
            value, place = _number(content, place)
            yield key >> 3, value
            continue
        length = {_EIGHT: 8, _FOUR: 4}.get(wire)
        if wire == _SOME:
            length, place = _number(content, place)
        if length is None or place + length > len(content):
            raise OnnxError("it is cut off or no ONNX file")
        yield key >> 3, content[place : place + length]
        place += length


def _numbers(content: memoryview) -> list[int]:
    numbers, place = [], 0
    while place < len(content):
        number, place = _number(content, place)
        numbers.append(number)
    return numbers


def _number(content: memoryview, place: int) -> tuple[int, int]:
    number = 0
    for shift, byte in enumerate(content[place : place + _LONGEST_NUMBER]):
        number |= (byte & 127) << 7 * shift
        if byte < 128:
            return number, place + shift + 1
    raise OnnxError("it is cut off or no ONNX file")
