"""Odd photos that browsers show, all of them made by code, each by a name that says what is odd about it."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

from tests.shop_similarity.photos.bad_files import gif_with, segment
from tests.shop_similarity.photos.photo_files import (
    DARK_GREY,
    LOSSY,
    WIDE_RGB,
    description_element,
    drawn,
    encoded,
    gamma_element,
    icc_profile,
    png,
    png_chunk,
    press_profile,
    text_element,
    xyz_element,
)

WIDTH, HEIGHT = 96, 64
PHOTO, OTHER = drawn(), drawn().transpose(Image.Transpose.ROTATE_180)
GREY = PHOTO.convert("L")
RGBA = PHOTO.convert("RGBA")
RGBA.putalpha(Image.radial_gradient("L").resize(PHOTO.size))
TURN = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 3, 1, 6) + bytes(4)
"""EXIF data of a quarter turn."""
XMP_OF_TURN = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
# Whoever applies it sees red and blue in each other's place.
SWAPPED = icc_profile(
    b"RGB ",
    {
        b"desc": description_element(b"Swapped"),
        b"cprt": text_element(b"none"),
        b"wtpt": xyz_element(0.9642, 1, 0.8249),
        b"rXYZ": xyz_element(0.1492, 0.0632, 0.7446),
        b"gXYZ": xyz_element(0.2053, 0.6257, 0.0609),
        b"bXYZ": xyz_element(0.6097, 0.3111, 0.0195),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma_element(2.2)),
    },
)
SRGB, ADOBE = (
    (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000),
)
RGB_FILE, PALETTE_FILE, GREY_FILE, RGBA_FILE = (
    encoded(photo, "PNG") for photo in (PHOTO, PHOTO.quantize(16), GREY, RGBA)
)


def padded(profile: bytes, length: int) -> bytes:
    return struct.pack(">I", length) + profile[4:].ljust(length - 4, b"\0")


def wrong(chunk: bytes) -> bytes:
    """With a checksum that is none."""
    return chunk[:-1] + bytes((chunk[-1] ^ 0xFF,))


def before(kind: bytes, photo: bytes, *chunks: bytes) -> bytes:
    at = photo.index(kind) - 4
    return photo[:at] + b"".join(chunks) + photo[at:]


def with_chunks(*chunks: bytes, photo: bytes = RGB_FILE) -> bytes:
    return photo[:33] + b"".join(chunks) + photo[33:]


def at_the_end(chunk: bytes) -> bytes:
    return before(b"IEND", RGB_FILE, chunk)


def with_body(kind: bytes, photo: bytes, body: bytes) -> bytes:
    """A PNG whose first chunk of the kind has another body."""
    at = photo.index(kind) - 4
    length = int.from_bytes(photo[at : at + 4])
    return photo[:at] + png_chunk(kind, body) + photo[at + 12 + length :]


def pixels_of(photo: bytes) -> bytes:
    at = photo.index(b"IDAT") - 4
    return photo[at + 8 : at + 8 + int.from_bytes(photo[at : at + 4])]


def iccp(profile: bytes, name: bytes = b"x", method: bytes = b"\0") -> bytes:
    return png_chunk(b"iCCP", name + b"\0" + method + zlib.compress(profile))


def gama(value: int) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", value))


def chrm(numbers: tuple[int, ...]) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *numbers))


def cicp(*numbers: int) -> bytes:
    return png_chunk(b"cICP", bytes(numbers))


def rows_of(photo: Image.Image) -> bytes:
    return b"".join(b"\0" + photo.crop((0, y, photo.width, y + 1)).tobytes() for y in range(photo.height))


def deep(photo: Image.Image, colour: int, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel."""
    body = b"".join(
        b"\0" + b"".join(bytes((value, 0)) for value in photo.crop((0, y, photo.width, y + 1)).tobytes())
        for y in range(photo.height)
    )
    return png(*photo.size, body, depth=16, colour=colour, extra=extra)


def shallow(depth: int, key: int | None = None) -> bytes:
    """A PNG of grey of a few bits."""
    rows = b"".join(b"\0" + bytes((x * 37 + y * 11) & 0xFF for x in range(WIDTH * depth // 8)) for y in range(HEIGHT))
    extra = b"" if key is None else png_chunk(b"tRNS", struct.pack(">H", key))
    return png(WIDTH, HEIGHT, rows, depth=depth, colour=0, extra=extra)


def interlaced(photo: Image.Image) -> bytes:
    rows, values = b"", photo.load()
    for left, top, across, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        for y in range(top, photo.height, down):
            row = [values[x, y] for x in range(left, photo.width, across)]
            rows += b"\0" + b"".join(bytes(value if isinstance(value, tuple) else (value,)) for value in row)
    colour = {"L": 0, "RGB": 2, "RGBA": 6}[photo.mode]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *photo.size, 8, colour, 0, 0, 1))
    return RGB_FILE[:8] + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def animated(default: Image.Image, *frames: Image.Image, at: tuple[int, int] = (0, 0), blend: int = 0) -> bytes:
    """An APNG whose default picture is not part of the animation; each frame stays for minutes."""
    chunks, number = [png_chunk(b"acTL", struct.pack(">II", len(frames), 1))], 0
    chunks.append(png_chunk(b"IDAT", zlib.compress(rows_of(default))))
    for frame in frames:
        control = struct.pack(">5IHHBB", number, *frame.size, *at, 60_000, 100, 0, blend)
        data = struct.pack(">I", number + 1) + zlib.compress(rows_of(frame))
        chunks += [png_chunk(b"fcTL", control), png_chunk(b"fdAT", data)]
        number += 2
    colour = {"RGB": 2, "RGBA": 6}[default.mode]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *default.size, 8, colour, 0, 0, 0))
    return RGB_FILE[:8] + header + b"".join(chunks) + png_chunk(b"IEND", b"")


JPEG = encoded(PHOTO, "JPEG", quality=95)
CMYK = encoded(PHOTO.convert("CMYK"), "JPEG", quality=95)


def of_more_rows(photo: bytes) -> bytes:
    """A JPEG that says that it is as high as the others."""
    at = photo.index(b"\xff\xc0") + 5
    return photo[:at] + struct.pack(">H", HEIGHT) + photo[at + 2 :]


def jpeg_after_start(*segments: bytes, photo: bytes = JPEG) -> bytes:
    return photo[:2] + b"".join(segments) + photo[2:]


def exif_segment(exif: bytes) -> bytes:
    return segment(0xE1, b"Exif\0\0" + exif)


def directory(*entries: tuple[int, int, int, int], rest: bytes = b"") -> bytes:
    """EXIF data of tags, types, counts and values."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + bytes(4) + rest


def icc_segments(profile: bytes, *, order: tuple[int, ...] = (), total: int = 0) -> bytes:
    pieces = [profile[start : start + 65_000] for start in range(0, len(profile), 65_000)]
    segments = [
        segment(0xE2, b"ICC_PROFILE\0" + bytes((number + 1, total or len(pieces))) + piece)
        for number, piece in enumerate(pieces)
    ]
    return jpeg_after_start(*(segments[place] for place in order or range(len(segments))))


def without_adobe(photo: bytes) -> bytes:
    at = photo.index(b"\xff\xee")
    return photo[:at] + photo[at + 2 + int.from_bytes(photo[at + 2 : at + 4]) :]


def with_adobe_transform(photo: bytes, transform: int) -> bytes:
    end = photo.index(b"\xff\xee") + 16
    return photo[: end - 1] + bytes((transform,)) + photo[end:]


def gif_frame(size: tuple[int, int], place: tuple[int, int], background: int = 0) -> bytes:
    """A GIF of 40 x 30 pixels in a whole of another size."""
    data = bytearray(encoded(drawn(40, 30).quantize(16), "GIF"))
    start = data.index(b",") + 1
    data[6:10], data[11], data[start : start + 4] = struct.pack("<HH", *size), background, struct.pack("<HH", *place)
    return bytes(data)


def gif_with_profile() -> bytes:
    blocks = (SWAPPED[start : start + 255] for start in range(0, len(SWAPPED), 255))
    return gif_with(b"\x21\xff\x0bICCRGBG1012" + b"".join(bytes((len(block),)) + block for block in blocks) + b"\0")


def webp(photo: Image.Image = PHOTO, **options) -> bytes:
    return encoded(photo, "WEBP", lossless=True, **options)


def avif(photo: Image.Image = PHOTO, **options) -> bytes:
    return encoded(photo, "AVIF", quality=95, subsampling="4:4:4", **options)


EXIF = Image.Exif()
EXIF[274] = 6
SMALL_BESIDE_NOTHING = Image.new("RGBA", PHOTO.size, (0, 0, 0, 0))
SMALL_BESIDE_NOTHING.paste(drawn(40, 30), (20, 10))
KEY = struct.pack(">3H", 220, 30, 30)
ANCILLARY = ("tEXt", "zTXt", "iTXt", "pHYs", "tIME", "bKGD", "sBIT", "hIST", "sPLT", "gAMA", "cHRM", "sRGB", "eXIf")
ANCILLARY += ("iCCP", "cICP", "tRNS", "acTL", "oFFs", "vpAg")
_RAW_EXIF = b"\nexif\n%8d\n" % (6 + len(TURN)) + (b"Exif\0\0" + TURN).hex().encode() + b"\n"

ODD_FILES: dict[str, bytes] = {
    # What a browser skips.
    "PNG, iCCP of 1.3 MB": with_chunks(iccp(padded(SWAPPED, 1_300_000))),
    "PNG, zTXt of 1.2 MB": with_chunks(png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_200_000)))),
    "PNG, XMP of 1.5 MB": with_chunks(
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(1_500_000)))
    ),
    "PNG, XMP of 1.5 MB at the end": at_the_end(
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(1_500_000)))
    ),
    "PNG, 70 MB of texts": with_chunks(png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000))) * 70),
    "PNG, zTXt of an unknown method": with_chunks(png_chunk(b"zTXt", b"k\0\x09abc")),
    **{f"PNG, {kind} empty": with_chunks(png_chunk(kind.encode(), b"")) for kind in ANCILLARY},
    **{f"PNG, {kind} of a wrong checksum": with_chunks(wrong(png_chunk(kind.encode(), b"abcd"))) for kind in ANCILLARY},
    "PNG, gAMA short": with_chunks(png_chunk(b"gAMA", b"\0\0\xb1")),
    "PNG, gAMA long": with_chunks(png_chunk(b"gAMA", struct.pack(">I", 100_000) + b"xx")),
    "PNG, cHRM short": with_chunks(png_chunk(b"cHRM", bytes(20))),
    "PNG, chunk of odd letters": with_chunks(png_chunk(b"a\0b!", b"abc")),
    "PNG, text named transparency": with_chunks(png_chunk(b"tEXt", b"transparency\0hello")),
    "PNG, text named interlace": with_chunks(png_chunk(b"tEXt", b"interlace\0hello")),
    "PNG, text named bbox": with_chunks(png_chunk(b"tEXt", b"bbox\0hello")),
    "PNG, text named icc_profile": with_chunks(png_chunk(b"tEXt", b"icc_profile\0hello")),
    "PNG, bKGD": with_chunks(png_chunk(b"bKGD", bytes((0, 200, 0, 0, 0, 0))), photo=RGBA_FILE),
    "PNG, bytes behind its end": RGB_FILE + b"xyz" * 1_000,
    "PNG without an end": RGB_FILE[:-12],
    "PNG, end of a wrong checksum": wrong(RGB_FILE),
    "PNG, more pixels than it has": with_body(
        b"IDAT", RGB_FILE, zlib.compress(zlib.decompress(pixels_of(RGB_FILE)) + b"abc" * 500)
    ),
    # Which way is up.
    "PNG, eXIf": with_chunks(png_chunk(b"eXIf", TURN)),
    "PNG, eXIf at the end": at_the_end(png_chunk(b"eXIf", TURN)),
    "PNG, eXIf of a wrong checksum that turns": with_chunks(wrong(png_chunk(b"eXIf", TURN))),
    "PNG, eXIf as in a JPEG": with_chunks(png_chunk(b"eXIf", b"Exif\0\0" + TURN)),
    "PNG, EXIF in a text": with_chunks(png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(_RAW_EXIF))),
    "PNG, text named exif": with_chunks(png_chunk(b"tEXt", b"exif\0" + TURN)),
    "PNG, orientation in XMP": with_chunks(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_OF_TURN)),
    # What its colours mean.
    "PNG, iCCP": with_chunks(iccp(SWAPPED)),
    "PNG, iCCP of Adobe RGB": with_chunks(iccp(WIDE_RGB)),
    "PNG, iCCP of a wrong checksum that swaps": with_chunks(wrong(iccp(SWAPPED))),
    "PNG, iCCP of an unknown method": with_chunks(iccp(SWAPPED, method=b"\1")),
    "PNG, iCCP without a name": with_chunks(iccp(SWAPPED, name=b"")),
    "PNG, iCCP of a long name": with_chunks(iccp(SWAPPED, name=b"n" * 100)),
    "PNG, iCCP without pieces": with_chunks(png_chunk(b"iCCP", b"xxxxx")),
    "PNG, iCCP cut off": with_chunks(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(SWAPPED)[:-30])),
    "PNG, iCCP of a wrong sum": with_chunks(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(SWAPPED)[:-4] + b"abcd")),
    "PNG, iCCP and more": with_chunks(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(SWAPPED) + b"abcd")),
    "PNG, two iCCP": with_chunks(iccp(SWAPPED), iccp(WIDE_RGB)),
    "PNG, two iCCP, the first empty": with_chunks(png_chunk(b"iCCP", b""), iccp(SWAPPED)),
    "PNG, iCCP and sRGB": with_chunks(iccp(SWAPPED), png_chunk(b"sRGB", b"\0")),
    "PNG, iCCP at the end": at_the_end(iccp(SWAPPED)),
    "PNG, iCCP behind a palette": before(b"IDAT", PALETTE_FILE, iccp(SWAPPED)),
    "PNG, iCCP and a palette": with_chunks(iccp(SWAPPED), photo=PALETTE_FILE),
    "PNG, iCCP and alpha": with_chunks(iccp(SWAPPED), photo=RGBA_FILE),
    "PNG, iCCP and 16 bits": with_chunks(iccp(SWAPPED), photo=deep(PHOTO, 2)),
    "PNG, iCCP of grey": with_chunks(iccp(DARK_GREY), photo=GREY_FILE),
    "PNG, iCCP of grey and alpha": with_chunks(iccp(DARK_GREY), photo=encoded(RGBA.convert("LA"), "PNG")),
    "PNG, iCCP of grey and 16 bits": with_chunks(iccp(DARK_GREY), photo=deep(GREY, 0)),
    "PNG of grey, iCCP of colours": with_chunks(iccp(SWAPPED), photo=GREY_FILE),
    "PNG of colours, iCCP of grey": with_chunks(iccp(DARK_GREY)),
    "PNG of colours, iCCP of a press": with_chunks(iccp(press_profile())),
    **{
        f"PNG, gAMA {value}": with_chunks(gama(value))
        for value in (0, 1, 22_727, 43_000, 44_000, 45_455, 47_000, 48_000, 55_556, 100_000, 2**31)
    },
    **{
        f"PNG, gAMA {value}, cHRM": with_chunks(gama(value), chrm(SRGB))
        for value in (0, 1, 22_727, 45_000, 45_455, 100_000)
    },
    "PNG, cHRM alone": with_chunks(chrm(ADOBE)),
    "PNG, gAMA and cHRM of Adobe RGB": with_chunks(gama(45_455), chrm(ADOBE)),
    "PNG, cHRM of zeros": with_chunks(gama(100_000), chrm((0,) * 8)),
    "PNG, cHRM of one colour": with_chunks(gama(100_000), chrm((31270, 32900) + (30000, 60000) * 3)),
    "PNG, cHRM beyond all colours": with_chunks(gama(100_000), chrm((31270, 32900, 2**31, 3, 4, 5, 2**32 - 1, 9))),
    "PNG, gAMA, cHRM and sRGB": with_chunks(gama(100_000), chrm(ADOBE), png_chunk(b"sRGB", b"\0")),
    "PNG, gAMA and an empty sRGB": with_chunks(gama(100_000), png_chunk(b"sRGB", b"")),
    "PNG, gAMA and an unknown sRGB": with_chunks(gama(100_000), png_chunk(b"sRGB", b"\x09")),
    "PNG, gAMA and a broken iCCP": with_chunks(gama(100_000), iccp(b"garbage")),
    "PNG, two gAMA": with_chunks(gama(100_000), gama(45_455)),
    "PNG, gAMA of a wrong checksum that lightens": with_chunks(wrong(gama(100_000))),
    "PNG, gAMA at the end": at_the_end(gama(100_000)),
    "PNG, gAMA and grey": with_chunks(gama(100_000), photo=GREY_FILE),
    "PNG, gAMA and a palette": with_chunks(gama(100_000), photo=PALETTE_FILE),
    "PNG, gAMA and alpha": with_chunks(gama(100_000), photo=RGBA_FILE),
    "PNG, gAMA and 16 bits": with_chunks(gama(100_000), photo=deep(PHOTO, 2)),
    "PNG, cICP of Display P3": with_chunks(cicp(12, 13, 0, 1)),
    "PNG, cICP of BT.2020": with_chunks(cicp(9, 13, 0, 1)),
    "PNG, cICP of light": with_chunks(cicp(1, 8, 0, 1)),
    "PNG, cICP of old television": with_chunks(cicp(4, 4, 0, 1)),
    "PNG, cICP of television": with_chunks(cicp(1, 1, 0, 1)),
    "PNG, cICP of a narrow range": with_chunks(cicp(12, 13, 0, 0)),
    "PNG, cICP of nothing known": with_chunks(cicp(2, 2, 0, 1)),
    "PNG, cICP and iCCP": with_chunks(cicp(12, 13, 0, 1), iccp(SWAPPED)),
    "PNG, cICP and sRGB": with_chunks(cicp(12, 13, 0, 1), png_chunk(b"sRGB", b"\0")),
    "PNG, cICP and gAMA": with_chunks(cicp(1, 13, 0, 1), gama(100_000)),
    # Its pixels.
    "PNG, interlaced": interlaced(PHOTO),
    "PNG, interlaced grey": interlaced(GREY),
    "PNG, interlaced with alpha": interlaced(RGBA),
    "PNG, 16 bits": deep(PHOTO, 2),
    "PNG, 16 bits of grey": deep(GREY, 0),
    "PNG, 16 bits of grey and alpha": deep(RGBA.convert("LA"), 4),
    "PNG, 16 bits and alpha": deep(RGBA, 6),
    "PNG, 2 bits": shallow(2),
    "PNG, alpha": RGBA_FILE,
    "PNG, palette with alpha": encoded(RGBA.quantize(16), "PNG"),
    "PNG, tRNS": before(b"IDAT", RGB_FILE, png_chunk(b"tRNS", KEY)),
    "PNG, tRNS short": before(b"IDAT", RGB_FILE, png_chunk(b"tRNS", b"\0")),
    "PNG, tRNS long": before(b"IDAT", RGB_FILE, png_chunk(b"tRNS", KEY + b"xx")),
    "PNG, tRNS beyond 8 bits": before(b"IDAT", RGB_FILE, png_chunk(b"tRNS", b"\1" + KEY[1:])),
    "PNG, tRNS beside alpha": before(b"IDAT", RGBA_FILE, png_chunk(b"tRNS", KEY)),
    "PNG, tRNS of a wrong checksum that hides": before(b"IDAT", RGB_FILE, wrong(png_chunk(b"tRNS", KEY))),
    "PNG, tRNS of grey": before(b"IDAT", GREY_FILE, png_chunk(b"tRNS", struct.pack(">H", GREY.getpixel((3, 3))))),
    "PNG, tRNS of 1 bit": shallow(1, 1),
    "PNG, tRNS of 1 bit, black": shallow(1, 0),
    "PNG, tRNS of 2 bits": shallow(2, 2),
    "PNG, tRNS of 4 bits": shallow(4, 7),
    "PNG, tRNS of 16 bits": deep(PHOTO, 2, png_chunk(b"tRNS", struct.pack(">3H", 220 << 8, 30 << 8, 30 << 8))),
    "PNG, tRNS of 16 bits of grey": deep(GREY, 0, png_chunk(b"tRNS", struct.pack(">H", GREY.getpixel((3, 3)) << 8))),
    "PNG, tRNS of 16 bits of grey, near": deep(
        GREY, 0, png_chunk(b"tRNS", struct.pack(">H", GREY.getpixel((3, 3)) << 8 | 5))
    ),
    "PNG, tRNS of a palette": before(b"IDAT", PALETTE_FILE, png_chunk(b"tRNS", bytes((0, 128, 255, 0, 64)))),
    "PNG, tRNS of a palette, too long": before(b"IDAT", PALETTE_FILE, png_chunk(b"tRNS", bytes(500))),
    "PNG, tRNS before its palette": before(b"PLTE", PALETTE_FILE, png_chunk(b"tRNS", bytes(5))),
    "PNG, two tRNS": before(b"IDAT", PALETTE_FILE, png_chunk(b"tRNS", bytes(3)), png_chunk(b"tRNS", b"\xff" * 16)),
    "PNG, palette short": with_body(b"PLTE", PALETTE_FILE, bytes((10, 246, 250, 26, 230, 242, 44, 212, 233))),
    "PNG, palette of ten bytes": with_body(b"PLTE", PALETTE_FILE, bytes((10, 246, 250, 26, 230, 242, 44, 212, 233, 1))),
    "PNG, palette long": with_body(b"PLTE", PALETTE_FILE, bytes(range(48)) + bytes(720)),
    "PNG of colours with a palette": with_chunks(png_chunk(b"PLTE", bytes(range(48)))),
    "APNG, its default picture hidden": animated(PHOTO, OTHER, PHOTO),
    "APNG, one frame": animated(PHOTO, OTHER),
    "APNG, its default picture first": encoded(
        PHOTO, "PNG", save_all=True, append_images=[OTHER], duration=60_000, loop=1
    ),
    "APNG, first frame small": animated(PHOTO, OTHER.resize((40, 30)), at=(20, 10)),
    "APNG, alpha": animated(RGBA, RGBA.transpose(Image.Transpose.ROTATE_180), blend=1),
    "APNG, its frames cut off": encoded(PHOTO, "PNG", save_all=True, append_images=[OTHER], duration=60_000)[:-200],
    "APNG, no frames": with_chunks(png_chunk(b"acTL", bytes(8))),
    # JPEG.
    "JPEG": JPEG,
    "JPEG of too few rows": of_more_rows(encoded(PHOTO.crop((0, 0, WIDTH, 40)), "JPEG", quality=95)),
    "JPEG, progressive": encoded(PHOTO, "JPEG", quality=95, progressive=True),
    "JPEG, grey": encoded(GREY, "JPEG", quality=95),
    "JPEG, bytes behind its end": JPEG + b"hello world" * 1_000,
    "JPEG, another behind it": JPEG + encoded(OTHER, "JPEG"),
    "JPEG, two pictures of a phone": LOSSY["mpo"](PHOTO),
    "JPEG, EXIF": jpeg_after_start(exif_segment(TURN)),
    "JPEG, EXIF twice": jpeg_after_start(exif_segment(TURN), exif_segment(directory((274, 3, 1, 3)))),
    "JPEG, EXIF broken and another": jpeg_after_start(exif_segment(b"garbage"), exif_segment(TURN)),
    "JPEG, EXIF with a long number": jpeg_after_start(exif_segment(directory((274, 4, 1, 6)))),
    "JPEG, EXIF with a byte": jpeg_after_start(exif_segment(directory((274, 1, 1, 6)))),
    "JPEG, EXIF with two numbers": jpeg_after_start(exif_segment(directory((274, 3, 2, 6 << 16 | 6)))),
    "JPEG, EXIF with three numbers": jpeg_after_start(
        exif_segment(directory((274, 3, 3, 26), rest=struct.pack("<3H", 6, 6, 6)))
    ),
    "JPEG, EXIF with two orientations": jpeg_after_start(exif_segment(directory((274, 3, 1, 6), (274, 3, 1, 8)))),
    "JPEG, EXIF of nine": jpeg_after_start(exif_segment(directory((274, 3, 1, 9)))),
    "JPEG, EXIF cut off": jpeg_after_start(exif_segment(TURN[:14])),
    "JPEG, EXIF of too many entries": jpeg_after_start(exif_segment(TURN[:8] + b"\xff\xff" + TURN[10:])),
    "JPEG, EXIF outside": jpeg_after_start(exif_segment(b"II*\0\xff\xff\xff\x7f" + TURN[8:])),
    "JPEG, EXIF further on": jpeg_after_start(exif_segment(b"II*\0\x64\0\0\0" + bytes(92) + TURN[8:])),
    "JPEG, orientation in XMP": jpeg_after_start(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP_OF_TURN)),
    "JPEG, profile": icc_segments(SWAPPED),
    "JPEG, profile of 1 MB": icc_segments(padded(SWAPPED, 1_000_000)),
    "JPEG, profile in another order": icc_segments(padded(SWAPPED, 150_000), order=(2, 0, 1)),
    "JPEG, profile without its end": icc_segments(padded(SWAPPED, 150_000), order=(0, 1)),
    "JPEG, profile without its middle": icc_segments(padded(SWAPPED, 150_000), order=(0, 2)),
    "JPEG, profile with a piece twice": icc_segments(padded(SWAPPED, 150_000), order=(0, 1, 1, 2)),
    "JPEG, profile of fewer pieces than it says": icc_segments(SWAPPED, total=3),
    "JPEG, profile of grey": icc_segments(DARK_GREY),
    "JPEG, grey with its profile": encoded(GREY, "JPEG", quality=95, icc_profile=DARK_GREY),
    "JPEG, grey with a profile of colours": encoded(GREY, "JPEG", quality=95, icc_profile=SWAPPED),
    "JPEG, CMYK of Adobe": CMYK,
    "JPEG, CMYK without Adobe": without_adobe(CMYK),
    "JPEG, YCCK of Adobe": with_adobe_transform(CMYK, 2),
    "JPEG, CMYK with its profile": encoded(PHOTO.convert("CMYK"), "JPEG", quality=95, icc_profile=press_profile()),
    "JPEG, CMYK with a profile of colours": encoded(PHOTO.convert("CMYK"), "JPEG", quality=95, icc_profile=SWAPPED),
    "JPEG, RGB": encoded(PHOTO, "JPEG", quality=95, keep_rgb=True),
    # GIF, WebP, AVIF, BMP.
    "GIF": encoded(PHOTO, "GIF"),
    "GIF, interlaced": encoded(PHOTO, "GIF", interlace=True),
    "GIF, transparent": encoded(RGBA.quantize(16), "GIF", transparency=0),
    "GIF, first frame small": gif_frame(PHOTO.size, (20, 10)),
    "GIF, first frame small, background": gif_frame(PHOTO.size, (20, 10), background=5),
    "GIF, frame larger than the whole": gif_frame((20, 10), (0, 0)),
    "GIF, frame over the edge": gif_frame((50, 40), (30, 25)),
    "GIF, animated": encoded(PHOTO, "GIF", save_all=True, append_images=[OTHER], duration=60_000),
    "GIF without an end": encoded(PHOTO, "GIF")[:-1],
    "GIF, bytes behind its end": encoded(PHOTO, "GIF") + b"abc" * 1_000,
    "GIF, profile": gif_with_profile(),
    "WebP": encoded(PHOTO, "WEBP", quality=95),
    "WebP, alpha": webp(RGBA),
    "WebP, lossy alpha": encoded(RGBA, "WEBP", quality=95),
    "WebP, EXIF": webp(exif=EXIF),
    "WebP, EXIF broken": webp(exif=b"garbage"),
    "WebP, profile": webp(icc_profile=SWAPPED),
    "WebP, animated": webp(save_all=True, append_images=[OTHER], duration=60_000),
    "WebP, first frame small": webp(
        SMALL_BESIDE_NOTHING,
        save_all=True,
        append_images=[OTHER.convert("RGBA")],
        duration=60_000,
        background=(0, 200, 0, 255),
    ),
    "WebP, bytes behind its end": webp() + b"abc" * 1_000,
    "AVIF": avif(),
    "AVIF, EXIF": avif(exif=EXIF),
    "AVIF, profile": avif(icc_profile=SWAPPED),
    "AVIF, bytes behind its end": avif() + b"abc" * 1_000,
    "BMP": encoded(PHOTO, "BMP"),
    "BMP, palette": encoded(PHOTO.quantize(16), "BMP"),
    "BMP, alpha": encoded(RGBA, "BMP"),
    "BMP, bytes behind its end": encoded(PHOTO, "BMP") + b"abc" * 1_000,
}
