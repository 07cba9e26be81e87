"""Damaged and hostile files, all of them made here, give an error with a sentence or a picture."""

from __future__ import annotations

import io
import pickle
import random
import socket
import struct
import subprocess
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.files.base import ContentFile
from django.utils import translation
from PIL import Image, ImageFile, TiffImagePlugin

from shop_similarity.photos import decoder
from shop_similarity.photos.contents import read_bytes
from shop_similarity.photos.decoding import open_image
from shop_similarity.photos.errors import ImageError, ImageMissing, ImageTooLarge, ImageTypeNotAllowed, ImageUnreadable
from shop_similarity.photos.limits import WEB_FORMATS, ImageLimits
from tests.shop_similarity.photos.photo_files import (
    ANIMATED,
    LOSSY,
    PHOTO,
    RED_BESIDE_NOTHING,
    WIDE_RGB,
    Unseekable,
    drawn,
    encoded,
    grey_16,
    grey_tiff,
    png,
    press_profile,
    progressive_with_scans,
)

SMALL = ImageLimits(max_bytes=2**20, max_pixels=1_000_000)
# Within this process, where it can be looked over the decoder's shoulder.
HERE = ImageLimits(max_seconds=0)


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


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bomb_is_refused_before_it_is_decoded(make, monkeypatch):
    def refuse(*args):
        raise AssertionError("decoded")

    data = make()
    assert len(data) < 100_000
    for plugin in (ImageFile.ImageFile, TiffImagePlugin.TiffImageFile):
        monkeypatch.setattr(plugin, "load", refuse)
    with pytest.raises(ImageTooLarge, match="smaller"):
        open_image(data, HERE)


@pytest.mark.filterwarnings("error")
def test_bomb_where_warnings_are_errors():
    with pytest.raises(ImageTooLarge):
        open_image(BOMBS["png-header-in-the-warning-range"](), HERE)


def test_pixels_up_to_the_limit_are_fine():
    data = encoded(drawn(), "PNG")
    assert open_image(data, ImageLimits(max_pixels=96 * 64)).size == (96, 64)
    with pytest.raises(ImageTooLarge, match="96 x 64 pixels, more than the 6,143"):
        open_image(data, ImageLimits(max_pixels=96 * 64 - 1))


def test_jpeg_of_endless_scans_is_refused():
    assert open_image(progressive_with_scans(decoder.MAX_JPEG_SCANS)).size == (64, 64)
    with pytest.raises(ImageTooLarge, match="scans"):
        open_image(progressive_with_scans(decoder.MAX_JPEG_SCANS + 1))


def test_scan_markers_in_metadata_and_behind_the_picture_do_not_count():
    data = encoded(drawn(), "JPEG", comment=b"\xff\xda" * 500) + b"\xff\xda\0\2" * 50_000
    assert open_image(data).size == drawn().size


@pytest.mark.parametrize("source", [bytes, io.BytesIO, ContentFile, lambda data: Unseekable(data)])
def test_too_many_bytes(source):
    limits = ImageLimits(max_bytes=2**20)
    assert read_bytes(source(b"x" * 2**20), limits.max_bytes) == b"x" * 2**20
    with pytest.raises(ImageTooLarge, match="larger than 1 MiB"):
        open_image(source(b"x" * (2**20 + 1)), limits)


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


@pytest.mark.parametrize(("data", "found"), NOT_ALLOWED.values(), ids=NOT_ALLOWED)
def test_type_is_not_allowed(data, found, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageTypeNotAllowed, match=r"upload the photo as JPEG, PNG, .*") as caught:
        open_image(path)
    assert found == "no" or f"of type {found};" in str(caught.value)


def test_allowed_formats_can_be_narrowed():
    tiff_file = encoded(drawn(), "TIFF")
    assert open_image(tiff_file).size == drawn().size
    with pytest.raises(ImageTypeNotAllowed, match="type TIFF; upload the photo as JPEG, PNG, WEBP, GIF, AVIF"):
        open_image(tiff_file, ImageLimits(formats=WEB_FORMATS))


def test_format_that_this_pillow_lacks_is_not_allowed():
    limits = ImageLimits(formats=("NO-SUCH-FORMAT", "PNG"))
    assert open_image(encoded(drawn(), "PNG"), limits).size == drawn().size
    with pytest.raises(ImageTypeNotAllowed):
        open_image(encoded(drawn(), "JPEG"), limits)


def test_nothing_is_executed_or_fetched(monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: calls.append(args))
    monkeypatch.setattr(socket, "socket", lambda *args, **kwargs: calls.append(args))
    for data, _found in NOT_ALLOWED.values():
        with pytest.raises(ImageTypeNotAllowed):
            open_image(data, HERE)
    with pytest.raises(ImageMissing):
        open_image("http://127.0.0.1:9/photo.jpg")
    assert calls == []


@pytest.mark.parametrize("source", [b"", bytearray(), io.BytesIO(), ContentFile(b"")])
def test_empty_file(source):
    with pytest.raises(ImageUnreadable, match="empty"):
        open_image(source)


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


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("data", TRUNCATABLE.values(), ids=TRUNCATABLE)
def test_truncated_file(data, share):
    with pytest.raises(ImageUnreadable, match=r"upload (it|the photo) again"):
        open_image(data[: max(16, int(len(data) * share))])


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "png", "webp", "gif"])
def test_truncated_file_says_where_it_ends(name):
    data = TRUNCATABLE[name][: len(TRUNCATABLE[name]) * 3 // 4]
    with pytest.raises(ImageUnreadable, match=f"cut off after {len(data):,} bytes"):
        open_image(data)


def test_damaged_middle():
    data = bytearray(TRUNCATABLE["png"])
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageUnreadable, match=r"PNG file is damaged .* save the photo anew"):
        open_image(bytes(data))


def test_memory_shortage_is_not_blamed_on_the_photo(monkeypatch):
    def fail(*args):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(MemoryError):
        open_image(encoded(drawn(), "JPEG"), HERE)


def test_errors_are_translated_when_shown_and_survive_pickling():
    with pytest.raises(ImageTooLarge) as caught:
        open_image(b"x" * 20, ImageLimits(max_bytes=10))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is ImageTooLarge
    assert str(copy) == str(caught.value)
    with translation.override("de"):
        assert str(copy)
    assert type(copy.message).__name__ == "__proxy__"


EXIF = Image.Exif()
EXIF[0x0112] = 6
SEEDS = {
    "jpeg": encoded(drawn(48, 40), "JPEG", exif=EXIF, icc_profile=WIDE_RGB),
    "jpeg-progressive": encoded(drawn(48, 40), "JPEG", progressive=True),
    "jpeg-cmyk": encoded(drawn(48, 40).convert("CMYK"), "JPEG", icc_profile=press_profile()),
    "mpo": LOSSY["mpo"](drawn(48, 40)),
    "png": encoded(drawn(48, 40), "PNG", exif=EXIF, icc_profile=WIDE_RGB),
    "png-palette": encoded(RED_BESIDE_NOTHING.quantize(4), "PNG"),
    "png-16": encoded(grey_16(48, 4), "PNG"),
    "apng": ANIMATED["apng"]([drawn(48, 40), drawn(48, 40).rotate(90)]),
    "webp": encoded(drawn(48, 40), "WEBP", exif=EXIF),
    "webp-animated": ANIMATED["webp"]([drawn(48, 40), drawn(48, 40).rotate(90)]),
    "gif": ANIMATED["gif"]([drawn(48, 40), drawn(48, 40).rotate(90)]),
    "avif": encoded(drawn(48, 40), "AVIF"),
    "bmp": encoded(drawn(48, 40), "BMP"),
    "bmp-palette": encoded(drawn(48, 40).quantize(16), "BMP"),
    "tiff": encoded(drawn(48, 40), "TIFF", exif=EXIF),
    "tiff-lzw": encoded(drawn(48, 40), "TIFF", compression="tiff_lzw"),
    "tiff-jpeg": encoded(drawn(48, 40), "TIFF", compression="jpeg"),
    "tiff-float": encoded(Image.linear_gradient("L").convert("F").resize((48, 40)), "TIFF"),
}


def damaged(data, dice):
    data = bytearray(data)
    # Half of the flips hit the first bytes, where headers and tables are.
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        reach = len(data) if dice.random() < 0.5 else min(len(data), 120)
        data[dice.randrange(reach)] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
    if dice.random() < 0.3:
        del data[dice.randrange(len(data)) :]
    return bytes(data)


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.filterwarnings("ignore")
def test_random_damage_gives_a_picture_or_an_image_error(name):
    dice = random.Random(name)
    outcomes = set()
    for number in range(60):
        data = damaged(SEEDS[name], dice)
        started = time.thread_time()
        try:
            result = open_image(data, SMALL, target_size=dice.choice((None, 8)))
        except ImageError as error:
            outcomes.add("error")
            assert str(error).endswith("."), (number, error)
            assert "%(" not in str(error)
        else:
            outcomes.add("image")
            assert result.mode == "RGB"
            assert len(result.tobytes()) == 3 * result.width * result.height <= 3 * SMALL.max_pixels
        assert time.thread_time() - started < 5, (number, "too slow")
    assert "error" in outcomes


def outcome(data):
    try:
        return open_image(data, SMALL, target_size=16).tobytes()
    except ImageError as error:
        return type(error), str(error)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_threads_do_not_disturb_each_other():
    files = [*SEEDS.values(), PHOTO, *(make() for make in BOMBS.values()), *TRUNCATABLE.values(), EPS, b""]
    files += [data[: len(data) // 2] for data in TRUNCATABLE.values()]
    expected = [outcome(data) for data in files]
    assert {type(result) for result in expected} == {bytes, tuple}
    state = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    work = [number for _ in range(12) for number in range(len(files))]
    random.Random(2).shuffle(work)
    with ThreadPoolExecutor(8) as pool:
        for number, result in zip(work, pool.map(lambda number: outcome(files[number]), work), strict=True):
            assert result == expected[number], number
    assert state == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
