"""Photos come out as a browser shows them: upright, on white, in sRGB, whatever the file is like."""

from __future__ import annotations

import io
import math
import struct

import pytest
from PIL import GifImagePlugin, Image, ImageChops, ImageCms
from PIL import __version__ as PILLOW_VERSION

from shop_similarity.photos import pixels
from shop_similarity.photos.decoder import decode
from shop_similarity.photos.decoding import DEFAULT_LIMITS, open_image
from shop_similarity.photos.errors import ImageUnreadable
from tests.shop_similarity.photos.decoding_child import DecodingChild
from tests.shop_similarity.photos.photo_files import (
    ANIMATED,
    DARK_GREY,
    LOSSY,
    RED_BESIDE_NOTHING,
    WIDE_RGB,
    difference,
    drawn,
    encoded,
    grey_16,
    png,
    press_profile,
    to_lab,
)

LOSSLESS = {
    "png": lambda im: encoded(im, "PNG"),
    "png-interlaced-free-16-bit": lambda im: png(
        *im.size,
        b"".join(
            b"\0" + b"".join(bytes((value, 0)) for value in im.crop((0, y, im.width, y + 1)).tobytes())
            for y in range(im.height)
        ),
        depth=16,
    ),
    "webp-lossless": lambda im: encoded(im, "WEBP", lossless=True),
    "bmp": lambda im: encoded(im, "BMP"),
    "tiff": lambda im: encoded(im, "TIFF"),
    "tiff-lzw": lambda im: encoded(im, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("write", LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_formats_come_out_exactly(write):
    result = open_image(write(drawn()))
    assert (result.mode, result.size) == ("RGB", (96, 64))
    assert result.tobytes() == drawn().tobytes()


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_come_out_alike(name):
    if name == "tiff-ycbcr" and int(PILLOW_VERSION.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 cannot read the uncompressed YCbCr TIFF that it writes")
    result = open_image(LOSSY[name](drawn()))
    assert result.mode == "RGB"
    assert difference(result, drawn()) < 5


@pytest.mark.parametrize("options", [{}, {"icc_profile": WIDE_RGB}], ids=["plain", "converted"])
def test_result_carries_neither_metadata_nor_an_open_file(options):
    exif = Image.Exif()
    exif[0x010E] = "private"
    result = open_image(encoded(drawn(), "JPEG", exif=exif, comment=b"private", **options))
    assert type(result) is Image.Image
    assert result.info == {}
    assert not result.getexif()


@pytest.mark.parametrize("size", [(1, 1), (1, 40_000), (40_000, 1), (3, 5)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("target_size", [None, 224])
def test_extreme_shapes(size, format, target_size):
    result = open_image(encoded(Image.new("RGB", size, (200, 60, 60)), format), target_size=target_size)
    assert (result.mode, result.size) == ("RGB", size)
    assert difference(result, Image.new("RGB", size, (200, 60, 60))) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "AVIF"])
def test_exif_orientation(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = {
        1: drawn(),
        2: drawn().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: drawn().transpose(Image.Transpose.ROTATE_180),
        4: drawn().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: drawn().transpose(Image.Transpose.TRANSPOSE),
        6: drawn().transpose(Image.Transpose.ROTATE_90),
        7: drawn().transpose(Image.Transpose.TRANSVERSE),
        8: drawn().transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    options = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    }.get(format, {})
    assert difference(open_image(encoded(stored, format, exif=exif, **options)), drawn()) < 3


def test_a_webp_is_not_turned_for_chromium_does_not_either():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded(drawn(), "WEBP", lossless=True, exif=exif)).tobytes() == drawn().tobytes()


EXIF_ORIENTATION_6 = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


HOSTILE_EXIF = {
    "no-tiff-header": b"Exif\0\0garbage that is no TIFF",
    "cut-off": b"Exif\0\0" + EXIF_ORIENTATION_6[:15],
    "endless-directory": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff\xff\xff\xff\xff" * 3,
    "directory-outside": b"Exif\0\0MM\0*\xff\xff\xff\xf0",
    "orientation-is-text": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",
    "orientation-99": b"Exif\0\0" + EXIF_ORIENTATION_6.replace(b"\0\x06", b"\0\x63"),
}


@pytest.mark.parametrize("exif", HOSTILE_EXIF.values(), ids=HOSTILE_EXIF)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_hostile_exif_is_ignored(format, exif):
    options = {"lossless": True} if format == "WEBP" else {}
    assert open_image(encoded(drawn(), format, exif=exif, **options)).size == drawn().size


def test_hostile_tags_beside_the_orientation_do_not_hide_it():
    # A tag whose value cannot be written anew: exif_transpose() of Pillow fails on it.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x87\x69\0\x02\0\0\0\x04abc\0\0\0\0\0"
    assert open_image(encoded(drawn(), "JPEG", exif=exif)).size == drawn().size[::-1]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format):
    result = open_image(encoded(grey_16(), format))
    assert [result.getpixel((x, 0)) for x in range(256)] == [(x, x, x) for x in range(256)]


def test_16_bit_grey_big_endian():
    ramp = b"".join(struct.pack(">H", x * 257) for x in range(256))
    tags = {256: 256, 257: 1, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(ramp)}
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", t, 4, 1, v) for t, v in tags.items())
    data = b"MM\0*" + struct.pack(">I", 8 + len(ramp)) + ramp + directory + b"\0\0\0\0"
    assert Image.open(io.BytesIO(data)).mode == "I;16B"
    assert open_image(data).tobytes() == bytes(value for x in range(256) for value in (x, x, x))


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("I", (0, 100, 255), (0, 100, 255)),
        ("I", (0, 25_700, 65_535), (0, 100, 255)),
        ("I", (0, 10**9, 2 * 10**9), (0, 128, 255)),
        ("I", (-100, 0, 100), (0, 128, 255)),
        ("I", (7, 7, 7), (7, 7, 7)),
        ("F", (0.0, 0.4, 1.0), (0, 102, 255)),
        ("F", (0.0, 100.0, 255.0), (0, 100, 255)),
        ("F", (-1e30, 0.0, 1e30), (0, 128, 255)),
        ("F", (-5.0, -5.0, -5.0), (0, 0, 0)),
    ],
)
def test_32_bit_grey(mode, values, expected):
    image = Image.new(mode, (3, 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    result = open_image(encoded(image, "TIFF"))
    assert [result.getpixel((x, 0)) for x in range(3)] == [(value, value, value) for value in expected]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers(value):
    with pytest.raises(ImageUnreadable, match="no numbers"):
        open_image(encoded(Image.new("F", (3, 3), value), "TIFF"))


def test_one_bit():
    image = Image.new("1", (8, 8), 0)
    image.putpixel((3, 3), 1)
    result = open_image(encoded(image, "PNG"))
    assert (result.getpixel((3, 3)), result.getpixel((4, 4))) == ((255, 255, 255), (0, 0, 0))


@pytest.mark.parametrize(
    "data",
    [
        encoded(RED_BESIDE_NOTHING, "PNG"),
        encoded(RED_BESIDE_NOTHING, "WEBP", lossless=True),
        encoded(RED_BESIDE_NOTHING, "GIF"),
        encoded(RED_BESIDE_NOTHING, "TIFF"),
        encoded(RED_BESIDE_NOTHING.quantize(4), "PNG"),
        encoded(Image.new("RGB", (8, 8), (255, 0, 0)), "PNG", transparency=(9, 9, 9)),
        encoded(RED_BESIDE_NOTHING.convert("RGB"), "PNG", transparency=(0, 0, 0)),
    ],
    ids=["rgba-png", "rgba-webp", "gif", "rgba-tiff", "palette-png", "colour-key-unused", "colour-key"],
)
@pytest.mark.parametrize("target_size", [None, 2])
def test_transparency_becomes_white(data, target_size, request):
    result = open_image(data, target_size=target_size)
    assert result.getpixel((0, 0)) == (255, 0, 0)
    if "unused" not in request.node.name:
        assert result.getpixel((7 * result.width // 8, 0)) == (255, 255, 255)


def test_colour_key_is_not_mixed_into_its_neighbours():
    image = Image.new("RGB", (8, 8), (0, 0, 0))
    image.paste((255, 0, 0), (0, 0, 3, 8))
    result = open_image(encoded(image, "PNG", transparency=(0, 0, 0)), target_size=2)
    assert result.size == (4, 4)
    assert min(red for red, _green, _blue in (result.getpixel((x, 0)) for x in range(4))) == 255


def test_half_transparent_grey_becomes_lighter():
    result = open_image(encoded(Image.new("LA", (4, 4), (0, 128)), "PNG"))
    assert result.getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("value", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)])
def test_adobe_cmyk_is_not_inverted(value):
    image = Image.new("CMYK", (16, 16), value)
    data = encoded(image, "JPEG", quality=95)
    assert b"Adobe" in data
    assert difference(open_image(data), image.convert("RGB")) < 3


def test_cmyk_profile_is_applied():
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = open_image(encoded(cyan, "JPEG", icc_profile=press_profile())).getpixel((8, 8))
    assert red > green + 40
    assert red > blue
    white = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    assert min(open_image(encoded(white, "JPEG", icc_profile=press_profile())).getpixel((8, 8))) >= 250


def test_wide_gamut_is_brought_to_srgb():
    data = encoded(Image.new("RGB", (8, 8), (128, 200, 128)), "PNG", icc_profile=WIDE_RGB)
    # By hand: each channel to the power of 2.2, the matrix from Adobe RGB to sRGB, and the sRGB curve.
    expected = Image.new("RGB", (8, 8), (77, 201, 125))
    assert difference(open_image(data), expected) <= 1.5


def test_grey_profile_is_applied():
    assert open_image(encoded(Image.new("L", (8, 8), 128), "PNG", icc_profile=DARK_GREY)).getpixel((0, 0))[0] < 100


def test_srgb_profile_costs_nothing(monkeypatch):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    built = []
    monkeypatch.setattr(pixels.ImageCms, "buildTransform", lambda *args, **kwargs: built.append(args))
    pixels._profile_transform.cache_clear()
    assert open_image(encoded(drawn(), "PNG", icc_profile=profile)).tobytes() == drawn().tobytes()
    assert not built


def test_profile_is_prepared_once():
    pixels._profile_transform.cache_clear()
    data = encoded(drawn(), "PNG", icc_profile=WIDE_RGB)
    decode(data, DEFAULT_LIMITS)
    decode(data, DEFAULT_LIMITS)
    assert pixels._profile_transform.cache_info().hits == 1


@pytest.mark.parametrize(
    "profile",
    [
        b"garbage",
        b"\0" * 500,
        WIDE_RGB[:140],
        press_profile(),
        DARK_GREY,
        WIDE_RGB[:128] + struct.pack(">I", 0xFFFFFFFF) + WIDE_RGB[132:],
        WIDE_RGB.ljust(pixels.MAX_PROFILE_BYTES + 1, b"\0"),
    ],
    ids=["garbage", "zeros", "cut-off", "of-cmyk", "of-grey", "endless", "too-large"],
)
def test_broken_or_foreign_profile_is_ignored(profile):
    data = encoded(drawn(), "TIFF", icc_profile=profile)
    assert open_image(data).tobytes() == drawn().tobytes()
    cmyk = drawn().convert("CMYK")
    if profile != press_profile():
        assert difference(open_image(encoded(cmyk, "JPEG", icc_profile=profile[:60_000])), cmyk.convert("RGB")) < 5


@pytest.mark.parametrize("write", ANIMATED.values(), ids=ANIMATED)
def test_animation_gives_its_first_frame(write):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((250, 10, 10), (10, 250, 10), (10, 10, 250))]
    assert difference(open_image(write(frames)), frames[0]) < 5


def test_many_frames_cost_nothing(monkeypatch):
    frames = [Image.new("RGB", (8, 8), (number % 256, number // 256, 90)) for number in range(2000)]
    data = ANIMATED["gif"](frames)
    assert Image.open(io.BytesIO(data)).n_frames > 1900

    def refuse(*args):
        raise AssertionError("a later frame was asked for")

    monkeypatch.setattr(GifImagePlugin.GifImageFile, "n_frames", property(refuse))
    monkeypatch.setattr(GifImagePlugin.GifImageFile, "seek", refuse)
    assert open_image(data).size == (8, 8)


@pytest.mark.parametrize("size", [(1000, 1000), (1600, 1200), (900, 2400), (448, 448)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_target_size_stays_near_the_full_decode(format, size):
    noise = Image.effect_noise((size[0] // 4, size[1] // 4), 60).resize(size, Image.Resampling.BICUBIC)
    data = encoded(ImageChops.blend(drawn(*size), noise.convert("RGB"), 0.4), format)
    full, small = open_image(data), open_image(data, target_size=224)
    assert min(small.size) >= 448
    assert min(small.size) < 2 * 448
    shape = (224, 224)
    distance = difference(full.resize(shape, Image.Resampling.BICUBIC), small.resize(shape, Image.Resampling.BICUBIC))
    assert distance < 1.5


def test_target_size_with_orientation_and_cmyk():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(drawn(2000, 1200).convert("CMYK"), "JPEG", exif=exif)
    small = open_image(data, target_size=100)
    assert small.size == (300, 500)
    shape = (100, 100)
    assert difference(small.resize(shape), open_image(data).resize(shape)) < 3


def test_target_size_never_enlarges():
    assert open_image(encoded(drawn(), "JPEG"), target_size=224).size == drawn().size


def test_16_bit_grey_is_scaled_before_or_after_shrinking_alike():
    data = encoded(grey_16(512, 512), "PNG")
    small = open_image(data, target_size=64)
    assert small.size == (128, 128)
    assert difference(small.resize((64, 64)), open_image(data).resize((64, 64))) < 1


def of_mode(mode, width=96, height=64):
    """A drawn photo of the mode, and what saves it."""
    photo = drawn(width, height)
    match mode:
        case "I;16":
            return grey_16(width, height), {}
        case "RGB key":
            return photo, {"transparency": (220, 30, 30)}
        case "P transparent":
            return photo.quantize(64), {"transparency": bytes(range(0, 256, 4))}
        case "P profile":
            return photo.quantize(64), {"icc_profile": WIDE_RGB}
        case "RGB profile":
            return photo, {"icc_profile": WIDE_RGB}
        case "CMYK profile":
            return photo.convert("CMYK"), {"icc_profile": press_profile()}
        case "LAB":
            return to_lab(photo), {}
        case "RGBA" | "LA":
            photo.putalpha(Image.radial_gradient("L").resize((width, height)))
            return photo.convert(mode), {}
        case _:
            return photo.convert(mode), {}


def file_of_mode(mode, width=96, height=64):
    photo, options = of_mode(mode, width, height)
    kind = "PNG" if photo.mode in ("RGB", "RGBA", "LA", "L", "P", "1", "I;16") else "TIFF"
    compression = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
    return encoded(photo, kind, **options, **compression)


MODES = (
    *("RGB", "RGB key", "RGB profile", "RGBA", "L", "LA", "P", "P transparent", "P profile", "1", "I;16", "I", "F"),
    *("CMYK", "CMYK profile", "LAB"),
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target_size", [None, 5, 13])
def test_a_photo_that_is_converted_in_pieces_shows_no_seam(mode, target_size, monkeypatch):
    data = file_of_mode(mode)
    whole = open_image(data, target_size=target_size)
    for pixels_of_a_tile in (1, 100, 1500):
        monkeypatch.setattr(pixels, "TILE_PIXELS", pixels_of_a_tile)
        assert open_image(data, target_size=target_size).tobytes() == whole.tobytes()


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")


@pytest.mark.parametrize("mode", ["RGB", "RGB key", "RGBA", "L", "LA", "P", "P transparent", "1", "CMYK", "LAB"])
def test_unshrunk_pixels_are_those_of_pillow_within_one(mode):
    data = file_of_mode(mode)
    extrema = ImageChops.difference(open_image(data), by_pillow(data)).getextrema()
    assert max(high for _low, high in extrema) <= 1


@pytest.mark.parametrize("mode", MODES)
def test_a_shrunk_photo_is_near_the_whole_one(mode):
    data = file_of_mode(mode, 960, 640)
    small = open_image(data, target_size=40)
    assert small.size == (120, 80)
    whole = open_image(data).reduce(8)
    assert difference(small, whole) < 2.5


@pytest.fixture(scope="module")
def child():
    child = DecodingChild()
    yield child
    child.close()


# Bytes of a pixel as Pillow keeps it.
BYTES = {"L": 1, "P": 1, "P transparent": 1, "P profile": 1, "1": 1, "I;16": 2}
MEGABYTES_BESIDE = 20
"""Of tiles, of the result, and of the decoder."""


@pytest.mark.parametrize("mode", [*MODES, "YCbCr"])
def test_a_photo_costs_its_own_pixels_and_little_more(mode, child):
    data = file_of_mode(mode, 4000, 3000)
    answer = child.decode(data, 50_000_000, 224)
    assert answer["outcome"] == "image"
    assert answer["megabytes"] < 12 * BYTES.get(mode, 4) + MEGABYTES_BESIDE


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P transparent", "I;16", "F"])
def test_a_photo_that_is_not_shrunk_costs_itself_and_the_result(mode, child):
    data = file_of_mode(mode, 4000, 3000)
    answer = child.decode(data, 50_000_000, None)
    assert answer["outcome"] == "image"
    result = 0 if mode == "RGB" else 4
    assert answer["megabytes"] < 12 * (BYTES.get(mode, 4) + result) + MEGABYTES_BESIDE


# Pillow keeps a pointer to each row as well.
@pytest.mark.parametrize(("size", "of_rows"), [((2_000_000, 2), 0), ((2, 2_000_000), 48)])
def test_a_line_of_pixels_is_converted_in_pieces(size, of_rows, child):
    answer = child.decode(encoded(Image.new("RGBA", size, (9, 9, 9, 9)), "PNG"), 50_000_000, None)
    assert answer["outcome"] == "image"
    assert answer["megabytes"] < 4 * (4 + 4) + of_rows + MEGABYTES_BESIDE
