"""Files of absurdly many parts are refused before a decoder takes them apart; honest ones with much in them are not."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from shop_similarity.photos.decoder import _has_too_many_scans
from shop_similarity.photos.decoding import ImageTooLarge, open_image
from shop_similarity.photos.structure import has_many_orientations, has_too_many_parts
from tests.shop_similarity.photos.photo_files import drawn, encoded, png_chunk


def _encoded(kind: str, **options) -> bytes:
    return encoded(drawn(64, 48), kind, **options)


def _jpeg(*segments: bytes) -> bytes:
    photo = _encoded("JPEG")
    return photo[:2] + b"".join(segments) + photo[2:]


def _segment(code: int, content: bytes) -> bytes:
    return bytes((0xFF, code)) + struct.pack(">H", len(content) + 2) + content


def _png(*chunks: bytes) -> bytes:
    photo = _encoded("PNG")
    return photo[:33] + b"".join(chunks) + photo[33:]


def _png_in_pieces(number: int) -> bytes:
    """The pixels in so many chunks."""
    photo = _encoded("PNG")
    start = photo.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", photo, start)
    pixels = photo[start + 8 : start + 8 + length]
    pieces = [pixels[place : place + 1] for place in range(length)] + [b""] * (number - length)
    return photo[:start] + b"".join(png_chunk(b"IDAT", piece) for piece in pieces) + photo[start + 12 + length :]


def _gif(extension: bytes) -> bytes:
    photo = _encoded("GIF")
    start = 13 + 3 * 2 ** ((photo[10] & 7) + 1)
    return photo[:start] + extension + photo[start:]


def _tiff(strips: int) -> bytes:
    """Grey, one row a strip."""
    entries = [(256, 4, 1, 8), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    offsets = 8 + 2 + 12 * 9 + 4
    entries += [(273, 4, strips, offsets), (278, 4, 1, 1), (279, 4, strips, offsets + 4 * strips)]
    directory = struct.pack("<H", 9) + b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    pixels = offsets + 8 * strips
    places = struct.pack(f"<{strips}I", *(pixels + 8 * row for row in range(strips)))
    return b"II*\0\x08\0\0\0" + directory + b"\0\0\0\0" + places + struct.pack("<I", 8) * strips + b"\x80" * 8 * strips


def _orientations(number: int) -> bytes:
    """EXIF data whose orientation is so many rational numbers."""
    entry = struct.pack("<HHII", 274, 5, number, 26)
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0" + struct.pack("<II", 6, 1) * number


HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG of EXIF segments of ten bytes": lambda: _jpeg(_segment(0xE1, b"Exif\0\0II") * 700_000),
    "JPEG of empty segments": lambda: _jpeg(_segment(0xE5, b"") * 1_000_000),
    "JPEG of markers without a length": lambda: _jpeg(b"\xff\x01" * 2_000_000),
    "JPEG of 0xFF": lambda: _jpeg(b"\xff" * 9_900_000),
    "JPEG of bytes between its segments": lambda: _jpeg(_segment(0xE5, b"") + b"\0" * 9_900_000),
    "JPEG of padded zeros": lambda: _jpeg(b"\xff\0" * 4_900_000),
    "JPEG of EXIF segments as long as can be": lambda: _jpeg(_segment(0xE1, b"Exif\0\0" + b"\0" * 65_000) * 150),
    "JPEG that is nothing but stray bytes": lambda: b"\xff\xd8\xff" + b"\0" * 9_900_000,
    "PNG of profiles": lambda: _png(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 1_000_000)) * 8_000),
    "PNG of empty chunks": lambda: _png(png_chunk(b"prVt", b"") * 800_000),
    "PNG of texts": lambda: _png(png_chunk(b"tEXt", b"a\0b") * 600_000),
    "PNG of empty chunks of pixels": lambda: _png_in_pieces(800_000),
    "GIF of a comment in blocks of one byte": lambda: _gif(b"\x21\xfe" + b"\x01x" * 4_900_000 + b"\0"),
    "GIF of empty comments": lambda: _gif(b"\x21\xfe\0" * 3_000_000),
    "GIF of bytes that mean nothing": lambda: _gif(b"\x07" * 9_900_000),
    "TIFF of millions of bits per sample": lambda: (
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 258, 3, 4_900_000, 26) + bytes(4 + 2 * 4_900_000)
    ),
    "TIFF of millions of strips": lambda: _tiff(1_200_000),
    "TIFF of strips that claim to be bytes": lambda: _tiff(1_200_000).replace(
        struct.pack("<HH", 273, 4), struct.pack("<HH", 273, 1), 1
    ),
    "TIFF of entries": lambda: (
        b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + b"\x01\x01\x03\0\x01\0\0\0\0\0\0\0" * 65_535
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_too_many_parts_is_refused_at_once(name):
    data = HOSTILE[name]()
    started = time.thread_time()
    with pytest.raises(ImageTooLarge, match="more parts than"):
        open_image(data)
    # Of the processor, not of the clock. Before, these took from ten seconds to a minute, or gigabytes.
    assert time.thread_time() - started < 2


HONEST: dict[str, Callable[[], bytes]] = {
    "JPEG with the XMP of a long history": lambda: _jpeg(
        _segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"x" * 65_000) * 200
    ),
    "JPEG with a profile of a press": lambda: _encoded("JPEG", icc_profile=bytes(3_000_000)),
    "JPEG with EXIF as long as can be": lambda: _encoded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(65_000)),
    "JPEG with padding": lambda: _jpeg(b"\xff" * 4_096),
    "PNG with a long text": lambda: _png(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 3_000_000)),
    "PNG with a thousand texts": lambda: _png(png_chunk(b"tEXt", b"a\0b") * 1_000),
    "PNG in small pieces": lambda: _png_in_pieces(20_000),
    "GIF with XMP": lambda: _gif(b"\x21\xff\x0bXMP DataXMP" + b"<xmp>" * 100_000 + bytes(range(255, -1, -1)) + b"\0"),
    "TIFF of a row a strip": lambda: _tiff(20_000),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_file_with_much_in_it_is_welcome(name):
    data = HONEST[name]()
    assert not has_too_many_parts(data)
    assert open_image(data).mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_orientation_of_a_million_numbers_is_not_read(kind):
    exif = _orientations(1_200_000)
    assert has_many_orientations(exif) and not has_many_orientations(_orientations(1))
    data = _encoded(kind, exif=exif)
    started = time.thread_time()
    assert open_image(data).size == (64, 48)
    assert time.thread_time() - started < 2
    assert has_too_many_parts(exif[6:]), "a TIFF"


def test_a_turned_photo_is_still_turned():
    exif = Image.Exif()
    exif[274] = 6
    assert open_image(_encoded("JPEG", exif=exif)).size == (48, 64)


def _scans(length: int) -> bytes:
    """A JPEG whose first scan holds a run of 0xFF that ends in no marker, and then more scans than are looked for."""
    photo = _encoded("JPEG")
    start = photo.index(b"\xff\xda")
    return photo[: start + 14] + b"\xff" * length + b"\0" + b"\xff\xda" * 101 + b"\xff\xd9"


def _seconds(length: int) -> float:
    """Of the processor, the least of three."""
    data, times = _scans(length), []
    for _ in range(3):
        started = time.thread_time()
        _has_too_many_scans(data)
        times.append(time.thread_time() - started)
    return min(times)


def test_twice_the_bytes_take_about_twice_the_time():
    # So few took two seconds before, and four times as long for twice as many.
    assert _seconds(20_000) < 0.5
    assert _seconds(8_000_000) < 3 * _seconds(4_000_000)


@pytest.mark.parametrize("walked", ["JPEG", "PNG", "GIF", "TIFF"])
def test_walks_end_wherever_a_file_is_cut_off(walked):
    data = {
        "JPEG": _jpeg(_segment(0xE1, b"Exif\0\0")),
        "PNG": _png(),
        "GIF": _gif(b"\x21\xfe\x01x\0"),
        "TIFF": _tiff(3),
    }
    for length in range(len(data[walked])):
        assert not has_too_many_parts(data[walked][:length])
