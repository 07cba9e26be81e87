"""Decoding of good, odd, damaged and hostile photos, all of them made here."""

import hashlib
import io
import math
import pickle
import random
import socket
import struct
import subprocess
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, InMemoryStorage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import FileField
from django.db.models.fields.files import FieldFile
from django.utils import translation
from PIL import GifImagePlugin, Image, ImageChops, ImageDraw, ImageFile, ImageStat, TiffImagePlugin
from PIL import __version__ as PILLOW_VERSION

from shop_similarity.photos import decoding
from shop_similarity.photos.decoding import (
    WEB_FORMATS,
    ImageError,
    ImageLimits,
    ImageMissing,
    ImageTooLarge,
    ImageTypeNotAllowed,
    ImageUnreadable,
    content_sha256,
    open_image,
    read_bytes,
)

SMALL = ImageLimits(max_bytes=2**20, max_pixels=1_000_000)


def drawn(width=96, height=64):
    """Gradient with shapes, different in each corner."""
    ramp = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp.point(lambda v: 255 - v // 2)))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 3, height // 4), fill=(220, 30, 30))
    draw.ellipse((width // 2, height // 2, width - 2, height - 2), fill=(30, 60, 200))
    return image


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def difference(one, other):
    """Mean absolute difference per channel, 0..255."""
    assert one.size == other.size
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, body, depth=8, colour=2, extra=b""):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", zlib.compress(body)) + png_chunk(b"IEND", b"")


def tiff(tags, body=b"\0" * 64):
    """Little-endian TIFF with one directory of LONG tags; the body starts at byte 8."""
    directory = struct.pack("<H", len(tags))
    for tag, value in sorted(tags.items()):
        directory += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + b"\0\0\0\0"


def grey_tiff(width, height, **more):
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 64}
    return tiff(tags | {int(key[1:]): value for key, value in more.items()})


def icc_profile(space, tags):
    """ICC version 2 profile with the given tags (signature -> element)."""
    directory, elements = struct.pack(">I", len(tags)), b""
    for signature, element in tags.items():
        element += b"\0" * (-len(element) % 4)
        directory += signature + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(elements), len(element))
        elements += element
    device = b"prtr" if space == b"CMYK" else b"mntr"
    pcs = b"Lab " if space == b"CMYK" else b"XYZ "
    header = struct.pack(">I4sI", 128 + len(directory) + len(elements), b"lcms", 0x02400000) + device + space + pcs
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    header += struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)  # the D50 illuminant of the profile connection space
    return header.ljust(128, b"\0") + directory + elements


def text_element(text):
    return b"text\0\0\0\0" + text + b"\0"


def description_element(text):
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" * (1 + 8 + 3 + 67)


def xyz_element(x, y, z):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in (x, y, z)))


def gamma_element(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


WIDE_RGB = icc_profile(
    b"RGB ",
    {
        b"desc": description_element(b"Wide gamut"),
        b"cprt": text_element(b"none"),
        b"wtpt": xyz_element(0.9642, 1, 0.8249),
        # Colorants of Adobe RGB (1998), adapted to D50.
        b"rXYZ": xyz_element(0.6097, 0.3111, 0.0195),
        b"gXYZ": xyz_element(0.2053, 0.6257, 0.0609),
        b"bXYZ": xyz_element(0.1492, 0.0632, 0.7446),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma_element(2.2)),
    },
)

DARK_GREY = icc_profile(
    b"GRAY",
    {
        b"desc": description_element(b"Steep grey"),
        b"cprt": text_element(b"none"),
        b"wtpt": xyz_element(0.9642, 1, 0.8249),
        b"kTRC": gamma_element(3.5),
    },
)


def press_profile():
    """A press whose cyan ink is a light pink: whoever ignores the profile sees cyan."""
    identity = bytes(range(256))
    grid = b""
    for cyan in (0, 1):
        for inks in range(8):  # magenta, yellow, black on or off
            lightness, red_green = (190, 168) if cyan else (255, 128)
            grid += bytes((lightness * (8 - inks.bit_count() * 2) // 8, red_green, 128))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut += identity * 4 + grid + identity * 3
    return icc_profile(
        b"CMYK",
        {
            b"desc": description_element(b"Pink press"),
            b"cprt": text_element(b"none"),
            b"wtpt": xyz_element(0.9642, 1, 0.8249),
            b"A2B0": lut,
            b"A2B1": lut,
        },
    )


# --- photos as they should be ----------------------------------------------------------------------------------------

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

LOSSY = {
    "jpeg": lambda im: encoded(im, "JPEG", quality=95),
    "jpeg-progressive": lambda im: encoded(im, "JPEG", quality=95, progressive=True),
    "jpeg-cmyk": lambda im: encoded(im.convert("CMYK"), "JPEG", quality=95),
    "mpo": lambda im: encoded(im, "MPO", quality=95, save_all=True, append_images=[Image.new("RGB", im.size)]),
    "webp": lambda im: encoded(im, "WEBP", quality=95),
    "avif": lambda im: encoded(im, "AVIF", quality=90),
    "gif": lambda im: encoded(im, "GIF"),
    "png-palette": lambda im: encoded(im.quantize(256), "PNG"),
    "tiff-jpeg": lambda im: encoded(im, "TIFF", compression="jpeg", quality=95),
    "tiff-lab": lambda im: encoded(to_lab(im), "TIFF"),
    "tiff-ycbcr": lambda im: encoded(im.convert("YCbCr"), "TIFF"),
    "tiff-cmyk": lambda im: encoded(im.convert("CMYK"), "TIFF"),
}


def to_lab(image):
    cms = decoding.ImageCms
    return cms.profileToProfile(image, cms.createProfile("sRGB"), cms.createProfile("LAB"), outputMode="LAB")


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
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
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
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    }.get(format, {})
    assert difference(open_image(encoded(stored, format, exif=exif, **options)), drawn()) < 3


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


def grey_16(width=256, height=4):
    image = Image.new("I;16", (width, height))
    for x in range(width):
        for y in range(height):
            image.putpixel((x, y), x * 65535 // (width - 1))
    return image


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


RED_BESIDE_NOTHING = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
RED_BESIDE_NOTHING.paste((255, 0, 0, 255), (0, 0, 4, 8))


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
    profile = decoding.ImageCms.ImageCmsProfile(decoding.ImageCms.createProfile("sRGB")).tobytes()
    built = []
    monkeypatch.setattr(decoding.ImageCms, "buildTransform", lambda *args, **kwargs: built.append(args))
    decoding._profile_transform.cache_clear()
    assert open_image(encoded(drawn(), "PNG", icc_profile=profile)).tobytes() == drawn().tobytes()
    assert not built


def test_profile_is_prepared_once():
    decoding._profile_transform.cache_clear()
    data = encoded(drawn(), "PNG", icc_profile=WIDE_RGB)
    open_image(data)
    open_image(data)
    assert decoding._profile_transform.cache_info().hits == 1


@pytest.mark.parametrize(
    "profile",
    [
        b"garbage",
        b"\0" * 500,
        WIDE_RGB[:140],
        press_profile(),
        DARK_GREY,
        WIDE_RGB[:128] + struct.pack(">I", 0xFFFFFFFF) + WIDE_RGB[132:],
        WIDE_RGB.ljust(decoding.MAX_PROFILE_BYTES + 1, b"\0"),
    ],
    ids=["garbage", "zeros", "cut-off", "of-cmyk", "of-grey", "endless", "too-large"],
)
def test_broken_or_foreign_profile_is_ignored(profile):
    data = encoded(drawn(), "TIFF", icc_profile=profile)
    assert open_image(data).tobytes() == drawn().tobytes()
    cmyk = drawn().convert("CMYK")
    if profile != press_profile():
        assert difference(open_image(encoded(cmyk, "JPEG", icc_profile=profile[:60_000])), cmyk.convert("RGB")) < 5


ANIMATED = {
    "gif": lambda frames: encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    "webp": lambda frames: encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
    "apng": lambda frames: encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    "avif": lambda frames: encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:]),
    "tiff": lambda frames: encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
}


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


# --- smaller decoding ------------------------------------------------------------------------------------------------


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


# --- bombs -----------------------------------------------------------------------------------------------------------


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
        open_image(data)


@pytest.mark.filterwarnings("error")
def test_bomb_where_warnings_are_errors():
    with pytest.raises(ImageTooLarge):
        open_image(BOMBS["png-header-in-the-warning-range"]())


def test_pixels_up_to_the_limit_are_fine():
    data = encoded(drawn(), "PNG")
    assert open_image(data, ImageLimits(max_pixels=96 * 64)).size == (96, 64)
    with pytest.raises(ImageTooLarge, match="96 x 64 pixels, more than the 6,143"):
        open_image(data, ImageLimits(max_pixels=96 * 64 - 1))


def progressive_with_scans(count):
    data = encoded(Image.new("RGB", (64, 64), (200, 30, 40)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


def test_jpeg_of_endless_scans_is_refused():
    assert open_image(progressive_with_scans(decoding.MAX_JPEG_SCANS)).size == (64, 64)
    with pytest.raises(ImageTooLarge, match="scans"):
        open_image(progressive_with_scans(decoding.MAX_JPEG_SCANS + 1))


def test_scan_markers_in_metadata_and_behind_the_picture_do_not_count():
    data = encoded(drawn(), "JPEG", comment=b"\xff\xda" * 500) + b"\xff\xda\0\2" * 50_000
    assert open_image(data).size == drawn().size


@pytest.mark.parametrize("source", [bytes, io.BytesIO, ContentFile, lambda data: Unseekable(data)])
def test_too_many_bytes(source):
    limits = ImageLimits(max_bytes=2**20)
    assert read_bytes(source(b"x" * 2**20), limits.max_bytes) == b"x" * 2**20
    with pytest.raises(ImageTooLarge, match="larger than 1 MiB"):
        open_image(source(b"x" * (2**20 + 1)), limits)


# --- files that are no photos, and damaged ones ----------------------------------------------------------------------

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


def test_formats_of_limits():
    assert ImageLimits(formats=("jpeg", "MPO", "png")).formats == ("JPEG", "PNG")
    for wrong in ((), "JPEG", ("JPEG", "EPS")):
        with pytest.raises(ValueError, match=r"formats|EPS"):
            ImageLimits(formats=wrong)
    with pytest.raises(ValueError, match="max_pixels"):
        ImageLimits(max_pixels=0)


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
            open_image(data)
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
        open_image(encoded(drawn(), "JPEG"))


def test_errors_are_translated_when_shown_and_survive_pickling():
    with pytest.raises(ImageTooLarge) as caught:
        open_image(b"x" * 20, ImageLimits(max_bytes=10))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is ImageTooLarge
    assert str(copy) == str(caught.value)
    with translation.override("de"):
        assert str(copy)
    assert type(copy.message).__name__ == "__proxy__"


# --- sources ---------------------------------------------------------------------------------------------------------


class Unseekable(io.RawIOBase):
    """Gives its bytes once, in small pieces, as an HTTP body does."""

    def __init__(self, data):
        self.inner = io.BytesIO(data)

    def readable(self):
        return True

    def seekable(self):
        return False

    def seek(self, *args):
        raise io.UnsupportedOperation("seek")

    def tell(self):
        raise io.UnsupportedOperation("tell")

    def read(self, size=-1):
        return self.inner.read(min(size, 1000) if size >= 0 else 1000)


class RemoteStorage(InMemoryStorage):
    """An object storage: files cannot seek and are looked up at the first read; counts its handles."""

    def __init__(self, failure=None):
        super().__init__()
        self.failure, self.opened, self.closed = failure, 0, 0

    def _open(self, name, mode="rb"):
        storage = self

        class Body(Unseekable):
            def read(self, size=-1):
                if storage.failure:
                    raise storage.failure
                return super().read(size)

            def close(self):
                if not self.closed:
                    storage.closed += 1
                super().close()

        self.opened += 1
        data = b"" if self.failure else super()._open(name, mode).read()
        return File(Body(data), name=name)


def field_file(storage, name="photo.jpg"):
    return FieldFile(SimpleNamespace(), FileField(name="file", storage=storage), name)


PHOTO = encoded(drawn(), "JPEG", quality=95)


@pytest.mark.parametrize(
    "kind", [str, lambda path: path, lambda path: File(path.open("rb")), lambda path: path.open("rb")]
)
def test_paths_and_open_files(kind, tmp_path):
    path = tmp_path / "photo.bin"
    path.write_bytes(PHOTO)
    source = kind(path)
    assert read_bytes(source) == PHOTO
    assert open_image(source).size == drawn().size
    if hasattr(source, "close"):
        assert not source.closed
        source.close()


def test_closed_django_file_is_opened_and_closed_again(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    source = File((tmp_path / "photo.jpg").open("rb"), name=str(tmp_path / "photo.jpg"))
    source.close()
    for _ in range(2):
        assert read_bytes(source) == PHOTO
        assert source.closed


def test_field_file_is_read_through_its_own_handle(tmp_path):
    storage = FileSystemStorage(tmp_path)
    storage.save("photo.jpg", ContentFile(PHOTO))
    source = field_file(storage)
    assert [read_bytes(source), read_bytes(source)] == [PHOTO, PHOTO]
    assert source.closed
    with source.open("rb") as handle:
        handle.seek(7)
        assert read_bytes(source) == PHOTO
        assert handle.tell() == 7


def test_field_file_of_an_object_storage():
    storage = RemoteStorage()
    storage.save("photo.jpg", ContentFile(PHOTO))
    source = field_file(storage)
    assert [read_bytes(source), read_bytes(source)] == [PHOTO, PHOTO]
    assert (storage.opened, storage.closed) == (2, 2)


def test_field_file_that_is_not_saved_yet():
    source = field_file(InMemoryStorage(), SimpleUploadedFile("photo.jpg", PHOTO).name)
    source.file, source._committed = SimpleUploadedFile("photo.jpg", PHOTO), False
    assert open_image(source).size == drawn().size
    assert read_bytes(source) == PHOTO


def test_position_of_an_upload_is_kept():
    upload = SimpleUploadedFile("photo.jpg", PHOTO)
    upload.seek(11)
    assert read_bytes(upload) == PHOTO
    assert upload.tell() == 11


def test_stream_that_cannot_seek():
    assert read_bytes(Unseekable(PHOTO)) == PHOTO
    assert open_image(Unseekable(PHOTO)).size == drawn().size


def test_announced_size_spares_the_download():
    class Huge(Unseekable):
        size = 10**12

        def read(self, size=-1):
            raise AssertionError("downloaded")

    with pytest.raises(ImageTooLarge):
        read_bytes(Huge(b""))


def test_no_more_than_the_limit_is_read_of_an_endless_stream():
    class Endless(Unseekable):
        given = 0

        def read(self, size=-1):
            self.given += size
            return b"x" * size

    source = Endless(b"")
    with pytest.raises(ImageTooLarge):
        read_bytes(source, 3 * 2**20)
    assert source.given == 3 * 2**20 + 1


def test_text_mode_is_a_programming_error():
    with pytest.raises(TypeError, match="binary mode"):
        read_bytes(io.StringIO("text"))


@pytest.mark.parametrize(
    "source",
    [
        lambda folder: folder / "gone.jpg",
        lambda folder: folder,
        lambda folder: folder / "there" / "below.jpg",
        lambda folder: field_file(FileSystemStorage(folder), "gone.jpg"),
        lambda folder: field_file(FileSystemStorage(folder), "../../etc/passwd"),
        lambda folder: field_file(FileSystemStorage(folder), ""),
        lambda folder: field_file(FileSystemStorage(folder), None),
        lambda folder: field_file(RemoteStorage(FileNotFoundError("NoSuchKey")), "gone.jpg"),
    ],
)
def test_missing_file(source, tmp_path):
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(ImageMissing, match=r"upload the photo again\."):
        open_image(source(tmp_path))


@pytest.mark.parametrize(
    "failure", [OSError("disk"), ConnectionResetError(), TimeoutError(), RuntimeError("throttled")]
)
def test_failing_storage_stays_retryable(failure):
    storage = RemoteStorage(failure)
    with pytest.raises(type(failure)) as caught:
        open_image(field_file(storage))
    assert caught.value is failure
    assert storage.closed == storage.opened == 1


def test_content_sha256():
    assert content_sha256(PHOTO) == hashlib.sha256(PHOTO).hexdigest()


# --- damage at random, and threads -----------------------------------------------------------------------------------

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
