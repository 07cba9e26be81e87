"""From the pixels of a file to those that a browser shows: upright, on white, sRGB, 8 bits."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _
from PIL import ExifTags, Image, ImageCms

from .errors import ImageUnreadable
from .structure import has_many_orientations

MAX_PROFILE_BYTES = 4 * 2**20
"""Larger ICC profiles are ignored. Those of printing presses reach 3 MiB."""


TILE_PIXELS = 2**20
"""About so many pixels are converted at once: besides the photo and the result, no copy is larger than that."""


def upright_srgb(image: Image.Image, target_size: int | None = None) -> Image.Image:
    """A decoded photo as a browser shows it on a white page: RGB, 8 bits, without metadata.

    Args:
        image: as Pillow has loaded it, of any mode. It is closed, so that its pixels are gone before the result is
            turned.
        target_size: see :func:`~shop_similarity.photos.decoding.open_image`.

    Raises:
        ImageUnreadable: it holds values that are no numbers.
    """
    factor = max(min(image.size) // (2 * target_size), 1) if target_size else 1
    turn = transposition(image)
    conversion = _conversion(image)
    rgb = _unchanged(image) if factor == 1 and conversion == _AS_IT_IS else _converted(image, conversion, factor)
    image.close()
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb.info = {}
    return rgb


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
    rgb = Image.new("RGB", (math.ceil(width / factor), math.ceil(height / factor)))
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
    """What the EXIF orientation asks for.

    ``ImageOps.exif_transpose`` would also serialise all other EXIF tags anew and fail on hostile ones.
    """
    exif = image.info.get("exif")
    if isinstance(exif, bytes) and has_many_orientations(exif):
        return None
    try:
        return _TRANSPOSITIONS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:
        return None


def _conversion(image: Image.Image) -> _Conversion:
    if image.mode.startswith("I;16"):
        return _Conversion(lambda tile: tile.convert("F"), _grey_to_8_bits(0, 65535))
    profile = image.info.get("icc_profile")
    match image.mode:
        case "I" | "F":
            return _Conversion(None, _grey_to_8_bits(*_black_and_white(image)))
        case "RGBA" | "LA" | "PA":
            return _Conversion(_on_white, _srgb(profile, "RGB"))
        case "RGB" | "L" | "P" | "1" if "transparency" in image.info:
            return _Conversion(_on_white, _srgb(profile, "RGB"))
        case "RGB" | "L" | "CMYK":
            return _Conversion(None, _srgb(profile, image.mode))
        case "P":
            return _Conversion(_to_rgb, _srgb(profile, "RGB"))
        case "YCbCr":
            return _Conversion(None, _to_rgb)
        # The profile of a LAB or YCbCr file does not describe the RGB that Pillow makes of it.
        case _:
            return _Conversion(_to_rgb)


def _to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(rgba, mask=rgba)
    return white


def _black_and_white(image: Image.Image) -> tuple[float, float]:
    """The values that mean black and white in a 32-bit file, which does not say so itself."""
    low, high = image.getextrema()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageUnreadable(
            _("The photo holds values that are no numbers; save it as an ordinary JPEG or PNG and upload it again.")
        )
    usual = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    ceiling = next((limit for limit in usual if high <= limit), None)
    return (low, high) if low < 0 or ceiling is None else (0, ceiling)


def _grey_to_8_bits(black: float, white: float) -> Step:
    """Grey of mode I or F as RGB; Pillow's own conversion clips everything above 255 to white."""
    scale = 255 / (white - black) if white > black else 0
    # The conversion to L cuts decimals off: half a step makes it round.
    offset = 0.5 - black * scale

    def convert(image: Image.Image) -> Image.Image:
        values = image if image.mode == "F" else image.convert("F")
        return values.point(lambda value: value * scale + offset).convert("L").convert("RGB")

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
