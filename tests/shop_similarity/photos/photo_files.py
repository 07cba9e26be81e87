"""Files of photos, good and odd, for the tests of this folder."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageStat


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


def to_lab(image):
    profiles = (ImageCms.createProfile(space) for space in ("sRGB", "LAB"))
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")


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


def grey_16(width=256, height=4):
    """A ramp from black to white."""
    row = b"".join(struct.pack("<H", x * 65535 // (width - 1)) for x in range(width))
    return Image.frombytes("I;16", (width, height), row * height)


RED_BESIDE_NOTHING = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
RED_BESIDE_NOTHING.paste((255, 0, 0, 255), (0, 0, 4, 8))


ANIMATED = {
    "gif": lambda frames: encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    "webp": lambda frames: encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
    "apng": lambda frames: encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    "avif": lambda frames: encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:]),
    "tiff": lambda frames: encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
}


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


PHOTO = encoded(drawn(), "JPEG", quality=95)


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
