"""From the pixels of a file to those that a browser shows: upright, on white, sRGB, 8 bits."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _
from PIL import Image, ImageChops, ImageCms

from .colour_profiles import MAX_PROFILE_BYTES
from .errors import ImageUnreadable
from .png import Frame
from .structure import exif_orientation

TILE_PIXELS = 2**20
"""About so many pixels are converted at once: besides the photo and the result, no copy is larger than that."""


def upright_srgb(image: Image.Image, target_size: int | None = None, frame: Frame | None = None) -> Image.Image:
    """A decoded photo as a browser shows it on a white page: RGB, 8 bits, without metadata.

    Args:
        image: as Pillow has loaded it, of any mode. It is closed, so that its pixels are gone before the result is
            turned.
        target_size: see :func:`~shop_similarity.photos.decoding.open_image`.
        frame: where in the whole it lies; what is around it is white. None: it is the whole.

    Raises:
        ImageUnreadable: it holds values that are no numbers.
    """
    size = frame.size if frame else image.size
    factor = max(min(size) // (2 * target_size), 1) if target_size else 1
    turn = transposition(image)
    # Pillow fills the rest with a colour of a palette, or black.
    shown = image.crop(frame.box) if frame and image.size == size else image
    conversion = _conversion(shown)
    rgb = _unchanged(shown) if factor == 1 and conversion == _AS_IT_IS else _converted(shown, conversion, factor)
    image.close()
    if frame:
        whole = Image.new("RGB", _reduced(size, factor), _WHITE)
        whole.paste(rgb, (frame.box[0] // factor, frame.box[1] // factor))
        rgb = whole
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb.info = {}
    return rgb


_WHITE = (255, 255, 255)


def _reduced(size: tuple[int, int], factor: int) -> tuple[int, int]:
    return math.ceil(size[0] / factor), math.ceil(size[1] / factor)


def _unchanged(image: Image.Image) -> Image.Image:
    """The same pixels, without the decoder's object, which drags the encoded file and its metadata along."""
    share = getattr(image, "_new", None)
    return share(image.im) if share else image.copy()


Step = Callable[[Image.Image], Image.Image]


class _Conversion(NamedTuple):
    """What makes a photo RGB. Pixels are averaged between the steps, as early as their mode allows."""

    before: Step | None = None
    after: Step | None = None


_AS_IT_IS = _Conversion()


def _converted(image: Image.Image, conversion: _Conversion, factor: int) -> Image.Image:
    """``image``, box-reduced by ``factor``, tile by tile."""
    width, height = image.size
    rgb = Image.new("RGB", _reduced(image.size, factor))
    for box in _tiles(width, height, factor):
        if conversion.before:
            tile = conversion.before(image.crop(box))
            tile = tile.reduce(factor) if factor > 1 else tile
        else:
            tile = image.reduce(factor, box)
        rgb.paste(conversion.after(tile) if conversion.after else tile, (box[0] // factor, box[1] // factor))
    return rgb


def _tiles(width: int, height: int, factor: int) -> Iterator[tuple[int, int, int, int]]:
    """Boxes that cover a photo; but for the last ones their sides are multiples of ``factor``."""
    across = max(min(width, 2**16, TILE_PIXELS // factor) // factor, 1) * factor
    down = max(TILE_PIXELS // across // factor, 1) * factor
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(left + across, width), min(top + down, height)


_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def transposition(image: Image.Image) -> Image.Transpose | None:
    """What browsers turn and mirror a photo by: the EXIF orientation, in formats where they look at it.

    They don't in a WebP. Pillow has put that of an AVIF into its EXIF data, and turns a TIFF itself, which browsers
    don't show. XMP is nobody's business.
    """
    exif = image.info.get("exif")
    if image.format not in ("JPEG", "MPO", "PNG", "AVIF") or not isinstance(exif, bytes):
        return None
    orientation = exif_orientation(exif)
    return None if orientation is None else _TRANSPOSITIONS.get(orientation)


def _conversion(image: Image.Image) -> _Conversion:
    profile = image.info.get("icc_profile")
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        return _Conversion(_floats(key), _grey_to_8_bits(0, 65535, _srgb(profile, "L")))
    match image.mode:
        case "I" | "F":
            return _Conversion(None, _grey_to_8_bits(*_black_and_white(image)))
        case "LA":
            return _Conversion(_on_white("LA", _srgb(profile, "L")))
        case "1" | "L" if key is not None:
            return _Conversion(_on_white("LA", _srgb(profile, "L")))
        case "RGBA" | "PA":
            return _Conversion(_on_white("RGBA", _srgb(profile, "RGB")))
        case "RGB" | "P" if key is not None:
            return _Conversion(_on_white("RGBA", _srgb(profile, "RGB")))
        case "1":
            return _Conversion(_to_grey, _srgb(profile, "L"))
        case "RGB" | "L" | "CMYK":
            return _Conversion(None, _srgb(profile, image.mode))
        case "P":
            return _Conversion(_to_rgb, _srgb(profile, "RGB"))
        case "YCbCr":
            return _Conversion(None, _to_rgb)
        # The profile of a LAB or YCbCr file does not describe the RGB that Pillow makes of it.
        case _:
            return _Conversion(_to_rgb)


def _to_grey(image: Image.Image) -> Image.Image:
    return image.convert("L")


def _to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _on_white(mode: str, to_srgb: Step | None) -> Step:
    """From any mode with transparency, over RGBA or LA; colours are brought to sRGB before they are mixed."""

    def convert(image: Image.Image) -> Image.Image:
        white = Image.new("RGB", image.size, _WHITE)
        if to_srgb in (None, _to_rgb):
            colours = mask = image if image.mode == "RGBA" else image.convert("RGBA")
        else:
            with_alpha = image if image.mode == mode else image.convert(mode)
            colours, mask = to_srgb(with_alpha.convert(mode[:-1])), with_alpha.getchannel("A")
        white.paste(colours, mask=mask)
        return white

    return convert


def _floats(key: object) -> Step:
    """From 16-bit grey; the value that ``key`` names is transparent, so white."""

    def convert(image: Image.Image) -> Image.Image:
        values = image.convert("F")
        if isinstance(key, int):
            # Of two channels: Pillow compares 16-bit values in no way.
            low, high = Image.frombytes("LA", image.size, image.tobytes("raw", "I;16")).split()
            is_low, is_high = (
                byte.point([255 * (value == part) for value in range(256)])
                for byte, part in ((low, key & 0xFF), (high, key >> 8))
            )
            values.paste(65535, mask=ImageChops.darker(is_low, is_high))
        return values

    return convert


def _black_and_white(image: Image.Image) -> tuple[float, float]:
    """The values that mean black and white in a 32-bit file, which does not say so itself."""
    low, high = image.getextrema()
    # Of an image with one channel they are numbers.
    assert not isinstance(low, tuple) and not isinstance(high, tuple)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageUnreadable(
            _("The photo holds values that are no numbers; save it as an ordinary JPEG or PNG and upload it again.")
        )
    usual = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    ceiling = next((limit for limit in usual if high <= limit), None)
    return (low, high) if low < 0 or ceiling is None else (0, ceiling)


def _grey_to_8_bits(black: float, white: float, to_srgb: Step | None = None) -> Step:
    """Grey of mode I or F as RGB; Pillow's own conversion clips everything above 255 to white."""
    scale = 255 / (white - black) if white > black else 0
    # The conversion to L cuts decimals off: half a step makes it round.
    offset = 0.5 - black * scale

    def convert(image: Image.Image) -> Image.Image:
        values = image if image.mode == "F" else image.convert("F")
        grey = values.point(lambda value: value * scale + offset).convert("L")
        return (to_srgb or _to_rgb)(grey)

    return convert


def _srgb(profile: object, mode: str) -> Step | None:
    """From RGB, L or CMYK to sRGB by an ICC profile, or by plain arithmetic where that fails; None for RGB as it is."""
    plain = None if mode == "RGB" else _to_rgb
    if not isinstance(profile, bytes) or not 0 < len(profile) <= MAX_PROFILE_BYTES:
        return plain
    transform = _profile_transform(profile, mode)
    if transform is None:
        return plain

    def convert(image: Image.Image) -> Image.Image:
        try:
            return transform.apply(image)
        except Exception:
            return _to_rgb(image)

    return convert


# The photos of a shop share a few profiles, and a press profile takes longer to prepare than to apply.
@functools.lru_cache(maxsize=4)
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None where there is nothing to convert: the profile is sRGB, of another colour space, or broken."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode == "RGB" and "srgb" in (source.profile.profile_description or "").lower():
            return None
        # As browsers do: the paper's white becomes white, the press's black becomes black.
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception:
        return None
