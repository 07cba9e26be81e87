"""What browsers obey in a PNG, taken from its chunks before Pillow sees them.

Pillow refuses a file for a damaged or long text in it, and takes some texts for properties of the pixels. Browsers skip
what they can't use. So what decides about pixels is handed on in a file written anew, and nothing else. The rules are
Chromium's, which a table in the tests is held against, and those of the PNG specification, third edition.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .colour_profiles import (
    MAX_PROFILE_BYTES,
    SRGB_CHROMATICITIES,
    SRGB_CURVE,
    grey_profile,
    is_profile_of,
    matrix_profile,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GREY, _PALETTE, _GREY_ALPHA = 0, 3, 4
_PROPERTIES = frozenset((b"tRNS", b"eXIf", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"iCCP", b"acTL", b"fcTL"))

_D65 = (0.3127, 0.329)
# By their numbers in ITU-T H.273: x and y of white, red, green and blue.
_PRIMARIES = {
    1: SRGB_CHROMATICITIES,
    4: (0.31, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    **dict.fromkeys((6, 7), (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
# Television is shown as its screens do (BT.1886). Of what is brighter than white (PQ, HLG) each browser makes its own.
_CURVES = {**dict.fromkeys((1, 6, 14, 15), (2.4,)), 4: (2.2,), 5: (2.8,), 8: (1.0,), 13: SRGB_CURVE}
# So near to sRGB, the exponent of a file that names no primaries means sRGB.
_SRGB_GAMMA, _TOLERANCE = 45_455, 0.05


class Frame(NamedTuple):
    """Where in the whole the first picture of a file lies.

    Args:
        size: width and height of the whole.
        box: left, top, right and bottom of the picture.
    """

    size: tuple[int, int]
    box: tuple[int, int, int, int]


class StillPng(NamedTuple):
    """A PNG of one picture and nothing else.

    Args:
        file: its bytes.
        profile: ICC profile of its colours; None for sRGB.
        frame: where it lies, if it is smaller than the whole.
    """

    file: bytes
    profile: bytes | None = None
    frame: Frame | None = None


class _Chunk(NamedTuple):
    """``data`` is its length, kind, body and checksum, or less where the file is cut off."""

    kind: bytes
    data: memoryview
    is_whole: bool

    @property
    def body(self) -> memoryview:
        return self.data[8:-4] if self.is_whole else self.data[8:]

    @property
    def is_intact(self) -> bool:
        return self.is_whole and zlib.crc32(self.data[4:-4]) == int.from_bytes(self.data[-4:])


def still_png(data: bytes) -> StillPng:
    """The picture of a PNG that browsers show, of an animation the first.

    What holds the pixels is handed on with its damages, for the decoder to judge.

    Args:
        data: the whole file, whose parts have been counted (:mod:`shop_similarity.photos.structure`).
    """
    chunks = _chunks(memoryview(data))
    header = next((chunk for chunk in chunks if chunk.kind == b"IHDR"), None)
    if header is None or not header.is_whole or len(header.body) < 13:
        return StillPng(data)
    width, height, depth, colour = struct.unpack_from(">IIBB", header.body)
    palette: _Chunk | None = None
    properties: dict[bytes, bytes] = {}
    pixels: list[_Chunk] = []
    for chunk in chunks:
        if chunk.kind == b"IDAT":
            pixels.append(chunk)
        elif pixels:
            # What else follows the pixels comes too late for them.
            chunks = itertools.chain((chunk,), chunks)
            break
        elif chunk.kind == b"PLTE":
            palette = palette or chunk
        elif chunk.kind in _PROPERTIES and chunk.is_intact and (chunk.kind != b"tRNS" or palette or colour != _PALETTE):
            properties.setdefault(chunk.kind, bytes(chunk.body))
    head: list[bytes | memoryview] = [header.data]
    body: list[bytes | memoryview] = [chunk.data for chunk in pixels]
    frame = None
    if b"acTL" in properties and b"fcTL" not in properties and (first := _first_frame((width, height), chunks)):
        frame, first_pixels = first
        left, top, right, bottom = frame.box
        head = [_written(b"IHDR", struct.pack(">II", right - left, bottom - top) + header.body[8:])]
        body = [_written(b"IDAT", piece) for piece in first_pixels]
    if palette is not None:
        head.append(_palette(palette) if colour == _PALETTE else palette.data)
    if key := _transparency(properties.get(b"tRNS", b""), depth, colour, palette):
        head.append(_written(b"tRNS", key))
    if (exif := properties.get(b"eXIf", b"")).startswith((b"II", b"MM")):
        head.append(_written(b"eXIf", exif))
    if frame or (pixels and pixels[-1].is_whole):
        body.append(_written(b"IEND", b""))
    profile = _profile(properties, is_grey=colour in (_GREY, _GREY_ALPHA))
    return StillPng(b"".join((SIGNATURE, *head, *body)), profile, frame)


# Left, top, step to the right and down of the seven pictures that an interlaced one is made of (Adam7).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PIECE = 2**16


def has_all_rows(data: bytes) -> bool:
    """Whether the pixels of a PNG are as many as its header says; Pillow takes those that are missing for zeros.

    Args:
        data: a file that :func:`still_png` gave and that Pillow has decoded.
    """
    chunks = list(_chunks(memoryview(data)))
    width, height, depth, colour, _method, _filter, is_interlaced = struct.unpack_from(">IIBBBBB", chunks[0].body)
    missing = sum(
        rows * (1 + math.ceil(columns * depth * _CHANNELS[colour] / 8))
        for left, top, across, down in (_PASSES if is_interlaced else ((0, 0, 1, 1),))
        if (columns := len(range(left, width, across))) and (rows := len(range(top, height, down)))
    )
    stream = zlib.decompressobj()
    try:
        for chunk in chunks:
            piece: bytes | memoryview = chunk.body if chunk.kind == b"IDAT" else b""
            while piece and missing > 0:
                missing -= len(stream.decompress(piece, _PIECE))
                piece = stream.unconsumed_tail
        return missing <= 0 or len(stream.flush()) >= missing
    except zlib.error:
        # A wrong checksum behind the last row: before it, the decoder would have failed too.
        return True


def _chunks(view: memoryview) -> Iterator[_Chunk]:
    position = 8
    while position + 8 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, position)
        end = position + 12 + length
        yield _Chunk(kind, view[position:end], end <= len(view))
        position = end


def _written(kind: bytes, body: bytes | memoryview) -> bytes:
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))))


def _first_frame(size: tuple[int, int], chunks: Iterable[_Chunk]) -> tuple[Frame, list[memoryview]] | None:
    """The first frame of an animation, and its pixels, where the picture before it is for those who know none."""
    frame: Frame | None = None
    pieces: list[memoryview] = []
    for chunk in chunks:
        if chunk.kind == b"fcTL" and not pieces and chunk.is_intact and len(chunk.body) == 26:
            _number, width, height, left, top = struct.unpack_from(">5I", chunk.body)
            frame = Frame(size, (left, top, left + width, top + height))
        elif chunk.kind == b"fdAT" and chunk.is_intact and len(chunk.body) >= 4:
            pieces.append(chunk.body[4:])
        elif pieces:
            break
    if frame is None or not pieces:
        return None
    left, top, right, bottom = frame.box
    return (frame, pieces) if left < right <= size[0] and top < bottom <= size[1] else None


def _palette(palette: _Chunk) -> bytes | memoryview:
    """With its last colour for all indices beyond it."""
    entries = bytes(palette.body[: len(palette.body) // 3 * 3])
    if not entries or not palette.is_intact or len(entries) >= 768:
        return palette.data
    return _written(b"PLTE", entries + entries[-3:] * (256 - len(entries) // 3))


def _transparency(key: bytes, depth: int, colour: int, palette: _Chunk | None) -> bytes:
    """As Pillow understands it: in the depth of the pixels that it decodes."""
    match colour:
        case 0 if len(key) >= 2:
            value = int.from_bytes(key[:2]) & (1 << depth) - 1
            # Pillow stretches two and four bits to eight.
            return struct.pack(">H", value * {2: 85, 4: 17}.get(depth, 1))
        case 2 if len(key) >= 6:
            # It keeps the upper of two bytes.
            return struct.pack(">3H", *(value >> depth - 8 & 0xFF for value in struct.unpack_from(">3H", key)))
        case 3 if palette is not None and len(key) <= len(palette.body) // 3:
            return key
    return b""


def _profile(properties: dict[bytes, bytes], *, is_grey: bool) -> bytes | None:
    """The first of four ways to say what the numbers of colours mean that says something."""
    if len(points := properties.get(b"cICP", b"")) == 4:
        primaries, curve, matrix, is_full_range = points
        if matrix == 0 and is_full_range == 1 and primaries in _PRIMARIES and curve in _CURVES:
            return None if (primaries, curve) == (1, 13) else _made(_PRIMARIES[primaries], _CURVES[curve], is_grey)
    profile = _unpacked(properties.get(b"iCCP", b""))
    if profile and is_profile_of(profile, "GRAY" if is_grey else "RGB "):
        return profile
    if len(intent := properties.get(b"sRGB", b"")) == 1 and intent[0] <= 3:
        return None
    if len(gamma := properties.get(b"gAMA", b"")) != 4 or not any(gamma):
        return None
    value = int.from_bytes(gamma)
    if len(numbers := properties.get(b"cHRM", b"")) == 32:
        return _made([number / 100_000 for number in struct.unpack(">8I", numbers)], (100_000 / value,), is_grey)
    if abs(value / _SRGB_GAMMA - 1) < _TOLERANCE:
        return None
    return _made(SRGB_CHROMATICITIES, (100_000 / value,), is_grey)


def _made(chromaticities: Sequence[float], curve: Sequence[float], is_grey: bool) -> bytes | None:
    return grey_profile(curve) if is_grey else matrix_profile(chromaticities, curve)


def _unpacked(chunk: bytes) -> bytes | None:
    """The profile in an iCCP chunk."""
    name, _end, rest = chunk.partition(b"\0")
    if not 1 <= len(name) <= 79 or rest[:1] != b"\0":
        return None
    stream = zlib.decompressobj()
    try:
        profile = stream.decompress(rest[1:], MAX_PROFILE_BYTES)
        # One byte more tells whether that was all, and has the checksum looked at.
        return profile if stream.eof or (not stream.decompress(stream.unconsumed_tail, 1) and stream.eof) else None
    except zlib.error:
        return None
