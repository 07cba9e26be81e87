"""A PNG is read as browsers read it, for a bounded price."""

from __future__ import annotations

import struct
import time
import zlib

import pytest
from PIL import Image

from shop_similarity.photos.colour_profiles import MAX_PROFILE_BYTES, is_profile_of, matrix_profile
from shop_similarity.photos.decoding import ImageTooLarge, open_image
from shop_similarity.photos.errors import ImageUnreadable
from shop_similarity.photos.limits import ImageLimits
from shop_similarity.photos.png import Frame, still_png
from tests.shop_similarity.photos.decoding_child import DecodingChild
from tests.shop_similarity.photos.odd_files import (
    ADOBE,
    HEIGHT,
    OTHER,
    PHOTO,
    RGB_FILE,
    RGBA,
    SWAPPED,
    WIDTH,
    animated,
    iccp,
    interlaced,
    padded,
    pixels_of,
    with_body,
    with_chunks,
)
from tests.shop_similarity.photos.photo_files import difference, encoded, png_chunk


def test_only_what_decides_about_pixels_is_handed_on():
    still = still_png(with_chunks(png_chunk(b"tEXt", b"a\0b"), iccp(SWAPPED)))
    assert still == (RGB_FILE, SWAPPED, None)


def test_wherever_a_file_is_cut_off_the_decoder_judges():
    for length in range(8, len(RGB_FILE) - 12):
        assert RGB_FILE.startswith(still_png(RGB_FILE[:length]).file)


def test_a_profile_that_unpacks_without_end_is_left_packed():
    data = with_chunks(iccp(padded(SWAPPED, MAX_PROFILE_BYTES))), with_chunks(iccp(bytes(400_000_000)))
    assert len(still_png(data[0]).profile) == MAX_PROFILE_BYTES
    child = DecodingChild()
    try:
        answer = child.decode(data[1], 50_000_000, None)
    finally:
        child.close()
    assert answer["outcome"] == "image" and answer["megabytes"] < 30


def test_the_whole_of_an_animation_is_counted_and_not_its_first_frame_alone():
    data = animated(PHOTO, OTHER.resize((8, 8)), at=(3, 3))
    assert still_png(data).frame == Frame((96, 64), (3, 3, 11, 11))
    large = bytearray(data)
    large[16:24] = struct.pack(">II", 60_000, 60_000)
    large[29:33] = struct.pack(">I", zlib.crc32(large[12:29]))
    with pytest.raises(ImageTooLarge):
        open_image(bytes(large))
    with pytest.raises(ImageTooLarge):
        open_image(data, ImageLimits(max_pixels=96 * 64 - 1))


@pytest.mark.parametrize("at", [(90, 0), (0, 60), (2**32 - 1, 0)])
def test_a_frame_outside_the_whole_is_no_frame(at):
    assert open_image(animated(PHOTO, OTHER.resize((8, 8)), at=at)).tobytes() == PHOTO.tobytes()


def test_many_frames_cost_no_more_than_to_walk_over_them():
    data = animated(PHOTO, *[OTHER.resize((1, 1))] * 1_900)
    started = time.thread_time()
    assert still_png(data).frame == Frame((96, 64), (0, 0, 1, 1))
    assert time.thread_time() - started < 1


def test_a_profile_made_of_numbers_is_that_of_a_camera():
    profile = matrix_profile([number / 100_000 for number in ADOBE], (2.2,))
    assert is_profile_of(profile, "RGB ") and not is_profile_of(profile, "GRAY")
    # By hand: each channel to the power of 2.2, the matrix from Adobe RGB to sRGB, and the sRGB curve.
    plain = Image.new("RGB", (8, 8), (128, 200, 128))
    shown = open_image(encoded(plain, "PNG", icc_profile=profile))
    assert difference(shown, Image.new("RGB", (8, 8), (77, 201, 125))) <= 1.5 < difference(shown, plain)


@pytest.mark.parametrize("numbers", [(0,) * 8, (0.3127, 0.329) + (0.3, 0.6) * 3, (1e-9,) * 8])
def test_numbers_that_describe_no_colours_make_no_profile(numbers):
    assert matrix_profile(numbers, (2.2,)) is None


@pytest.mark.parametrize("kind", ["all", "palette", "alpha", "interlaced", "whole"])
def test_a_png_that_lacks_rows_is_refused(kind):
    photo = {"palette": PHOTO.quantize(16), "alpha": RGBA}.get(kind, PHOTO)
    data = interlaced(photo) if kind == "interlaced" else encoded(photo, "PNG")
    rows = zlib.decompress(pixels_of(data))
    kept = {"all": 0, "whole": len(rows)}.get(kind, len(rows) // 2)
    shorter = with_body(b"IDAT", data, zlib.compress(rows[:kept]))
    if kind == "whole":
        assert open_image(shorter).tobytes() == open_image(data).tobytes()
        return
    # Browsers show the rows that there are; Pillow takes the others for black.
    with pytest.raises(ImageUnreadable, match="cut off"):
        open_image(shorter)


def test_a_png_whose_last_rows_are_black_is_whole():
    dark = PHOTO.copy()
    dark.paste("black", (0, HEIGHT // 2, WIDTH, HEIGHT))
    assert difference(open_image(encoded(dark, "PNG")), dark) == 0
    assert difference(open_image(interlaced(dark)), dark) == 0
