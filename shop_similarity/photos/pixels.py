"""From the pixels of a file to those that a browser shows: upright, on white, sRGB, 8 bits."""

from __future__ import annotations

import functools
import io
import math

from django.utils.translation import gettext_lazy as _
from PIL import ExifTags, Image, ImageCms

from .errors import ImageUnreadable
from .structure import has_many_orientations

MAX_PROFILE_BYTES = 4 * 2**20
"""Larger ICC profiles are ignored. Those of printing presses reach 3 MiB."""


def upright_srgb(image: Image.Image, target_size: int | None = None) -> Image.Image:
    """A decoded photo as a browser shows it on a white page: RGB, 8 bits, without metadata.

    Args:
        image: as Pillow has loaded it, of any mode.
        target_size: see :func:`~shop_similarity.photos.decoding.open_image`.

    Raises:
        ImageUnreadable: it holds values that are no numbers.
    """
    transposition = _transposition(image)
    shrunk = image
    # Pixels of these modes may be averaged before their colours are converted, which saves most of that work.
    if image.mode.startswith("I;16"):
        shrunk = _shrunk(image.convert("F"), target_size)
    elif image.mode in ("RGB", "L", "CMYK", "I", "F") and "transparency" not in image.info:
        shrunk = _shrunk(image, target_size)
    rgb = _shrunk(_rgb(shrunk, image), target_size)
    if transposition is not None:
        rgb = rgb.transpose(transposition)
    # The decoder's object drags the encoded file and its metadata along.
    if rgb is image:
        rgb = rgb.copy()
    rgb.info = {}
    return rgb


def _shrunk(image: Image.Image, target_size: int | None) -> Image.Image:
    factor = min(image.size) // (2 * target_size) if target_size else 1
    return image.reduce(factor) if factor > 1 else image


_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _transposition(image: Image.Image) -> Image.Transpose | None:
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


def _rgb(image: Image.Image, original: Image.Image) -> Image.Image:
    """``image``, perhaps smaller than the ``original`` that it was made from, as sRGB."""
    profile = original.info.get("icc_profile")
    if original.mode.startswith("I;16"):
        return _grey_to_8_bits(image, 0, 65535)
    match image.mode:
        case "I" | "F":
            return _grey_to_8_bits(image, *_black_and_white(image))
        case "RGBA" | "LA" | "PA":
            return _srgb(_on_white(image), profile)
        case "RGB" | "L" | "P" | "1" if "transparency" in original.info:
            return _srgb(_on_white(image), profile)
        case "RGB" | "L" | "CMYK":
            return _srgb(image, profile)
        case "P":
            return _srgb(image.convert("RGB"), profile)
        # The profile of a LAB or YCbCr file does not describe the RGB that Pillow makes of it.
        case _:
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


def _grey_to_8_bits(image: Image.Image, black: float, white: float) -> Image.Image:
    """Grey of mode I or F as RGB; Pillow's own conversion clips everything above 255 to white."""
    scale = 255 / (white - black) if white > black else 0
    # The conversion to L cuts decimals off: half a step makes it round.
    offset = 0.5 - black * scale
    values = image if image.mode == "F" else image.convert("F")
    return values.point(lambda value: value * scale + offset).convert("L").convert("RGB")


def _srgb(image: Image.Image, profile: object) -> Image.Image:
    """``image`` of mode RGB, L or CMYK as sRGB by its ICC profile, or by plain arithmetic where that fails."""
    if isinstance(profile, bytes) and 0 < len(profile) <= MAX_PROFILE_BYTES:
        transform = _profile_transform(profile, image.mode)
        if transform is not None:
            try:
                return transform.apply(image)
            except Exception:
                return image.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


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
