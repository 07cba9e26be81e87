"""Damaged and hostile files, all of them made here, give an error with a sentence or a picture."""

from __future__ import annotations

import io
import math
import pickle
import random
import socket
import subprocess
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
from tests.shop_similarity.photos.bad_files import (
    BOMBS,
    EPS,
    NOT_ALLOWED,
    TRUNCATABLE,
    avif_announcing,
    bmp_of_runs,
    progressive_announcing,
    progressive_with_scans,
    webp_announcing,
)
from tests.shop_similarity.photos.photo_files import (
    PHOTO,
    SEEDS,
    Unseekable,
    drawn,
    encoded,
    png,
)

SMALL = ImageLimits(max_bytes=2**20, max_pixels=1_000_000)
# Within this process, where it can be looked over the decoder's shoulder.
HERE = ImageLimits(max_seconds=0)


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


def test_a_large_jpeg_may_have_fewer_scans():
    # At 50 megapixels a hundred of them took 3.6 s.
    usual, more = (
        progressive_announcing(8000, 6250, scans) for scans in (decoder.USUAL_JPEG_SCANS, decoder.USUAL_JPEG_SCANS + 1)
    )
    with Image.open(io.BytesIO(usual)) as image:
        decoder._check_cost(image, usual, 50_000_000)
    with pytest.raises(ImageTooLarge, match="scans"):
        open_image(more)


@pytest.mark.parametrize(
    ("format", "allowed", "most"),
    [("WEBP", 50, 25), ("WEBP", 20, 20), ("WEBP", 100, 50), ("AVIF", 50, 33.3), ("BMP", 50, 12.5), ("PNG", 50, 50)],
)
def test_formats_whose_decoder_takes_more_may_have_fewer_pixels(format, allowed, most):
    announced = {
        "WEBP": webp_announcing,
        "AVIF": avif_announcing,
        "BMP": bmp_of_runs,
        "PNG": lambda *size: png(*size, b""),
    }[format]
    limits = ImageLimits(max_pixels=allowed * 1_000_000)
    side = math.isqrt(int(most * 1_000_000))
    with Image.open(io.BytesIO(announced(side, side))) as image:
        decoder._check_cost(image, b"", limits.max_pixels)
    with pytest.raises(ImageTooLarge, match="smaller"):
        open_image(announced(side + 10, side + 10), limits)


def test_scan_markers_in_metadata_and_behind_the_picture_do_not_count():
    data = encoded(drawn(), "JPEG", comment=b"\xff\xda" * 500) + b"\xff\xda\0\2" * 50_000
    assert open_image(data).size == drawn().size


@pytest.mark.parametrize("source", [bytes, io.BytesIO, ContentFile, lambda data: Unseekable(data)])
def test_too_many_bytes(source):
    limits = ImageLimits(max_bytes=2**20)
    assert read_bytes(source(b"x" * 2**20), limits.max_bytes) == b"x" * 2**20
    with pytest.raises(ImageTooLarge, match="larger than 1 MiB"):
        open_image(source(b"x" * (2**20 + 1)), limits)


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
