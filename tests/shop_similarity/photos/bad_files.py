"""Bad files, all of them made by code: what each is called, what makes it, and how it is refused."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from shop_similarity.photos.errors import ImageError, ImageTooLarge, ImageTypeNotAllowed, ImageUnreadable
from tests.shop_similarity.photos.photo_files import drawn, encoded, grey_tiff, png, png_chunk


def jpeg_announcing(width, height):
    data = bytearray(encoded(drawn(), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_announcing(width, height):
    data = bytearray(encoded(drawn(), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def gif_with_frame(width, height):
    data = bytearray(encoded(drawn(), "GIF"))
    start = data.index(b",\0\0\0\0") + 5
    data[start : start + 4] = struct.pack("<HH", width, height)
    return bytes(data)


def webp_announcing(width, height):
    """Lossless WebP of one colour takes no bytes per pixel: this one really decodes to that size."""
    data = bytearray(encoded(Image.new("RGB", (16, 16), (1, 2, 3)), "WEBP", lossless=True))
    start = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[start : start + 4], "little")
    data[start : start + 4] = ((bits >> 28 << 28) | (height - 1) << 14 | (width - 1)).to_bytes(4, "little")
    return bytes(data)


def avif_announcing(width, height):
    data = bytearray(encoded(drawn(), "AVIF"))
    start = data.index(b"ispe") + 8
    data[start : start + 8] = struct.pack(">II", width, height)
    return bytes(data)


def bmp_announcing(width, height):
    data = bytearray(encoded(drawn(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


BOMBS = {
    "png-header-60000": lambda: png(60_000, 60_000, b""),
    "png-header-in-the-warning-range": lambda: png(12_000, 10_000, b""),
    "png-header-2-billion": lambda: png(2**31 - 1, 2**31 - 1, b""),
    "png-real": lambda: png(9000, 9000, b"\0" * (9000 * 1126), depth=1, colour=0),
    "png-one-row-too-many": lambda: png(5000, 10_001, b"\0" * (10_001 * 626), depth=1, colour=0),
    "jpeg": lambda: jpeg_announcing(65_000, 65_000),
    "gif-canvas": lambda: gif_announcing(65_000, 65_000),
    "gif-frame": lambda: gif_with_frame(65_000, 65_000),
    "webp": lambda: webp_announcing(10_000, 9000),
    "webp-largest": lambda: webp_announcing(16_383, 16_383),
    "avif": lambda: avif_announcing(16_000, 16_000),
    "bmp": lambda: bmp_announcing(60_000, 60_000),
    "bmp-upside-down": lambda: bmp_announcing(60_000, -60_000),
    "tiff": lambda: grey_tiff(4_000_000, 4_000_000),
    "tiff-flat": lambda: grey_tiff(4_000_000_000, 1),
    "tiff-tile": lambda: grey_tiff(8, 8, t322=12_000, t323=12_000, t324=8, t325=64),
}


def progressive_with_scans(count):
    data = encoded(Image.new("RGB", (64, 64), (200, 30, 40)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


def progressive_announcing(width, height, scans):
    data = bytearray(progressive_with_scans(scans))
    start = data.index(b"\xff\xc2") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def slow_photo(side):
    """Less than a kilobyte that takes half a second and more for 50 megapixels."""
    return progressive_announcing(side, side, 24)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


NOT_ALLOWED = {
    "text": (b"This is a text that somebody named photo.jpg.\n" * 20, "no"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG"),
    "svg-xml": (b'<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="9" height="9"/>', "SVG"),
    "html": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "HTML"),
    "eps": (EPS, "EPS"),
    "eps-binary": (b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(EPS)) + b"\0" * 18 + EPS, "EPS"),
    "pdf": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "PDF"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64, "HEIC"),
    "psd": (b"8BPS\0\1" + b"\0" * 64, "PSD"),
    "zip": (b"PK\3\4" + b"\0" * 64, "ZIP"),
    "icon": (encoded(drawn(32, 32), "ICO"), "ICO"),
    "jpeg-2000": (encoded(drawn(), "JPEG2000"), "JPEG2000"),
    "ppm": (encoded(drawn(), "PPM"), "no"),
    "random": (random.Random(1).randbytes(500), "no"),
    "one-byte": (b"\xff", "no"),
}


TRUNCATABLE = {
    "jpeg": encoded(drawn(400, 300), "JPEG"),
    "jpeg-progressive": encoded(drawn(400, 300), "JPEG", progressive=True),
    "png": encoded(drawn(400, 300), "PNG"),
    "webp": encoded(drawn(400, 300), "WEBP"),
    "webp-lossless": encoded(drawn(400, 300), "WEBP", lossless=True),
    "gif": encoded(drawn(400, 300), "GIF"),
    "bmp": encoded(drawn(400, 300), "BMP"),
    "tiff": encoded(drawn(400, 300), "TIFF", compression="tiff_lzw"),
    "avif": encoded(drawn(400, 300), "AVIF"),
}


def small(kind: str, **options) -> bytes:
    return encoded(drawn(64, 48), kind, **options)


def jpeg_with(*segments: bytes) -> bytes:
    photo = small("JPEG")
    return photo[:2] + b"".join(segments) + photo[2:]


def segment(code: int, content: bytes) -> bytes:
    return bytes((0xFF, code)) + struct.pack(">H", len(content) + 2) + content


def png_with(*chunks: bytes) -> bytes:
    photo = small("PNG")
    return photo[:33] + b"".join(chunks) + photo[33:]


def png_in_pieces(number: int) -> bytes:
    """The pixels in so many chunks."""
    photo = small("PNG")
    start = photo.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", photo, start)
    pixels = photo[start + 8 : start + 8 + length]
    pieces = [pixels[place : place + 1] for place in range(length)] + [b""] * (number - length)
    return photo[:start] + b"".join(png_chunk(b"IDAT", piece) for piece in pieces) + photo[start + 12 + length :]


def gif_with(extension: bytes) -> bytes:
    photo = small("GIF")
    start = 13 + 3 * 2 ** ((photo[10] & 7) + 1)
    return photo[:start] + extension + photo[start:]


def tiff_of_strips(strips: int) -> bytes:
    """Grey, one row a strip."""
    entries = [(256, 4, 1, 8), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    offsets = 8 + 2 + 12 * 9 + 4
    entries += [(273, 4, strips, offsets), (278, 4, 1, 1), (279, 4, strips, offsets + 4 * strips)]
    directory = struct.pack("<H", 9) + b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    pixels = offsets + 8 * strips
    places = struct.pack(f"<{strips}I", *(pixels + 8 * row for row in range(strips)))
    return b"II*\0\x08\0\0\0" + directory + b"\0\0\0\0" + places + struct.pack("<I", 8) * strips + b"\x80" * 8 * strips


def orientations(number: int) -> bytes:
    """EXIF data whose orientation is so many rational numbers."""
    entry = struct.pack("<HHII", 274, 5, number, 26)
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0" + struct.pack("<II", 6, 1) * number


TOO_MANY_PARTS: dict[str, Callable[[], bytes]] = {
    "JPEG of EXIF segments of ten bytes": lambda: jpeg_with(segment(0xE1, b"Exif\0\0II") * 700_000),
    "JPEG of empty segments": lambda: jpeg_with(segment(0xE5, b"") * 1_000_000),
    "JPEG of markers without a length": lambda: jpeg_with(b"\xff\x01" * 2_000_000),
    "JPEG of 0xFF": lambda: jpeg_with(b"\xff" * 9_900_000),
    "JPEG of bytes between its segments": lambda: jpeg_with(segment(0xE5, b"") + b"\0" * 9_900_000),
    "JPEG of padded zeros": lambda: jpeg_with(b"\xff\0" * 4_900_000),
    "JPEG of EXIF segments as long as can be": lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + b"\0" * 65_000) * 150),
    "JPEG that is nothing but stray bytes": lambda: b"\xff\xd8\xff" + b"\0" * 9_900_000,
    "PNG of profiles": lambda: png_with(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 1_000_000)) * 8_000),
    "PNG of empty chunks": lambda: png_with(png_chunk(b"prVt", b"") * 800_000),
    "PNG of texts": lambda: png_with(png_chunk(b"tEXt", b"a\0b") * 600_000),
    "PNG of empty chunks of pixels": lambda: png_in_pieces(800_000),
    "GIF of a comment in blocks of one byte": lambda: gif_with(b"\x21\xfe" + b"\x01x" * 4_900_000 + b"\0"),
    "GIF of empty comments": lambda: gif_with(b"\x21\xfe\0" * 3_000_000),
    "GIF of bytes that mean nothing": lambda: gif_with(b"\x07" * 9_900_000),
    "TIFF of millions of bits per sample": lambda: (
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 258, 3, 4_900_000, 26) + bytes(4 + 2 * 4_900_000)
    ),
    "TIFF of millions of strips": lambda: tiff_of_strips(1_200_000),
    "TIFF of strips that claim to be bytes": lambda: tiff_of_strips(1_200_000).replace(
        struct.pack("<HH", 273, 4), struct.pack("<HH", 273, 1), 1
    ),
    "TIFF of entries": lambda: (
        b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + b"\x01\x01\x03\0\x01\0\0\0\0\0\0\0" * 65_535
    ),
}


def flat_webp(side: int) -> bytes:
    """Some forty bytes of any number of pixels."""
    return webp_announcing(side, side)


def flat_png(side: int = 13_000) -> bytes:
    """20 KB of 169 megapixels, of one bit each."""
    return png(side, side, b"\0" * (side * (side // 8 + 1)), depth=1, colour=0)


def bmp_of_runs(width: int, height: int) -> bytes:
    """A compressed BMP whose rows are one pixel and nothing more."""
    palette, rows = bytes((9, 9, 9, 0)) * 256, b"\1\5\0\0" * height
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 256)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + rows


def damaged_in_the_middle(kind: str) -> bytes:
    data = bytearray(TRUNCATABLE[kind])
    start = len(data) // 2
    data[start : start + 40] = bytes(byte ^ 0xFF for byte in data[start : start + 40])
    return bytes(data)


class BadFile(NamedTuple):
    """``error`` is the class of the refusal."""

    name: str
    build: Callable[[], bytes]
    error: type[ImageError]


BAD_FILES = (
    BadFile("empty", lambda: b"", ImageUnreadable),
    BadFile("more scans than pixels allow", lambda: progressive_with_scans(101), ImageTooLarge),
    BadFile("webp of a colour, 49 megapixels", lambda: flat_webp(7000), ImageTooLarge),
    BadFile("bmp of runs, 16 megapixels", lambda: bmp_of_runs(4000, 4000), ImageTooLarge),
    *(BadFile(f"bomb {name}", build, ImageTooLarge) for name, build in BOMBS.items()),
    *(
        BadFile(f"{name}, by another name", lambda data=data: data, ImageTypeNotAllowed)
        for name, (data, _found) in NOT_ALLOWED.items()
    ),
    *(
        BadFile(f"{name}, cut off", lambda data=data: data[: len(data) // 2], ImageUnreadable)
        for name, data in TRUNCATABLE.items()
    ),
    *(
        BadFile(f"{name}, damaged", lambda name=name: damaged_in_the_middle(name), ImageUnreadable)
        for name in ("png", "avif", "webp-lossless")
    ),
    *(BadFile(name, build, ImageTooLarge) for name, build in TOO_MANY_PARTS.items()),
)
