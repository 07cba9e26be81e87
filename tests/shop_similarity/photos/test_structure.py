"""Files of absurdly many parts are refused before a decoder takes them apart; honest ones with much in them are not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from PIL import Image

from shop_similarity.photos.decoder import _has_too_many_scans
from shop_similarity.photos.decoding import ImageTooLarge, open_image
from shop_similarity.photos.structure import exif_orientation, has_too_many_parts, webp_first_frame, webp_size
from tests.shop_similarity.photos.bad_files import (
    TOO_MANY_PARTS,
    gif_with,
    jpeg_with,
    orientations,
    png_in_pieces,
    png_with,
    segment,
    small,
    tiff_of_strips,
)
from tests.shop_similarity.photos.photo_files import drawn, encoded, png_chunk


@pytest.mark.parametrize("name", TOO_MANY_PARTS)
def test_a_file_of_too_many_parts_is_refused_at_once(name):
    data = TOO_MANY_PARTS[name]()
    started = time.thread_time()
    with pytest.raises(ImageTooLarge, match="more parts than"):
        open_image(data)
    # Of the processor, not of the clock. Before, these took from ten seconds to a minute, or gigabytes.
    assert time.thread_time() - started < 2


HONEST: dict[str, Callable[[], bytes]] = {
    "JPEG with the XMP of a long history": lambda: jpeg_with(
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"x" * 65_000) * 200
    ),
    "JPEG with a profile of a press": lambda: small("JPEG", icc_profile=bytes(3_000_000)),
    "JPEG with EXIF as long as can be": lambda: small("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(65_000)),
    "JPEG with padding": lambda: jpeg_with(b"\xff" * 4_096),
    "PNG with a long text": lambda: png_with(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 3_000_000)),
    "PNG with a thousand texts": lambda: png_with(png_chunk(b"tEXt", b"a\0b") * 1_000),
    "PNG in small pieces": lambda: png_in_pieces(20_000),
    "GIF with XMP": lambda: gif_with(
        b"\x21\xff\x0bXMP DataXMP" + b"<xmp>" * 100_000 + bytes(range(255, -1, -1)) + b"\0"
    ),
    "TIFF of a row a strip": lambda: tiff_of_strips(20_000),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_file_with_much_in_it_is_welcome(name):
    data = HONEST[name]()
    assert not has_too_many_parts(data)
    assert open_image(data).mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_orientation_of_a_million_numbers_is_not_read(kind):
    exif = orientations(1_200_000)
    assert exif_orientation(exif) is None
    data = small(kind, exif=exif)
    started = time.thread_time()
    assert open_image(data).size == (64, 48)
    assert time.thread_time() - started < 2
    assert has_too_many_parts(exif[6:]), "a TIFF"


def test_a_turned_photo_is_still_turned():
    exif = Image.Exif()
    exif[274] = 6
    assert open_image(small("JPEG", exif=exif)).size == (48, 64)


def _scans(length: int) -> bytes:
    """A JPEG whose first scan holds a run of 0xFF that ends in no marker, and then more scans than are looked for."""
    photo = small("JPEG")
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
        "JPEG": jpeg_with(segment(0xE1, b"Exif\0\0")),
        "PNG": png_with(),
        "GIF": gif_with(b"\x21\xfe\x01x\0"),
        "TIFF": tiff_of_strips(3),
    }
    for length in range(len(data[walked])):
        assert not has_too_many_parts(data[walked][:length])


@pytest.mark.parametrize(
    "options",
    [{}, {"lossless": True}, {"save_all": True, "append_images": [Image.new("RGB", (41, 23), "red")]}],
    ids=["VP8", "VP8L", "VP8X"],
)
def test_the_size_of_a_webp_is_known_without_a_decoder(options):
    data = encoded(Image.new("RGB", (41, 23)), "WEBP", **options)
    assert webp_size(data) == webp_size(data[:30]) == (41, 23)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF1234WEBPVP8?" + bytes(20), encoded(drawn(), "PNG")])
def test_other_files_have_no_size_of_a_webp(data):
    assert webp_size(data) is None


def test_the_first_frame_of_a_webp_is_found_among_few_chunks():
    small = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    small.paste((200, 0, 0), (10, 4, 20, 14))
    data = encoded(small, "WEBP", save_all=True, append_images=[Image.new("RGBA", (40, 30), "blue")], lossless=True)
    assert webp_first_frame(data) == (10, 4, 20, 14)
    assert webp_first_frame(encoded(small, "WEBP")) is None
    for length in range(len(data)):
        webp_first_frame(data[:length])
    started = time.thread_time()
    assert webp_first_frame(data[:30] + b"XXXX\0\0\0\0" * 2_000_000) is None
    assert time.thread_time() - started < 0.5
