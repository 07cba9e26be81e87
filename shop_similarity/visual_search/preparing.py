"""From what a shopper sent to the small picture that the worker gets: checked, upright, cropped, without metadata."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from django.utils.translation import gettext_lazy as _
from PIL import Image

from ..conf import get_settings
from ..photos.decoding import ImageLimits, Source, open_image
from .errors import CropError

MAX_SIDE = 512
"""Longest side in pixels of what the worker gets, more than twice the input of the networks."""

Crop = tuple[float, float, float, float]
"""Left, top, right and bottom edge of a region as parts of 1 of the upright photo."""

# A region of fewer pixels shows nothing that could be recognised.
_MIN_CROP_PIXELS = 16


def upload_limits() -> ImageLimits:
    """What a photo may be that is searched with: the ``VISUAL_SEARCH_`` settings."""
    settings = get_settings()
    return ImageLimits(
        max_bytes=settings.visual_search_max_bytes,
        max_pixels=settings.visual_search_max_pixels,
        formats=settings.visual_search_formats,
    )


def prepare_photo(source: Source, crop: Sequence[float] | None = None) -> bytes:
    """The photo as the worker gets it.

    Args:
        source: bytes, a path, an uploaded file or another binary file; see
            :func:`shop_similarity.photos.decoding.read_bytes`. No more of it is read than ``VISUAL_SEARCH_MAX_BYTES``
            allow.
        crop: the region to search with, as :data:`Crop`; the whole photo by default.

    Returns:
        PNG, RGB, 8 bits, at most ``MAX_SIDE`` pixels long, without metadata.

    Raises:
        ImageError: the photo can't be used; see the subclasses in :mod:`shop_similarity.photos.decoding`.
        CropError: the region can't be used.
    """
    region = _checked(crop)
    share = min(region[2] - region[0], region[3] - region[1])
    # Half of it: open_image leaves both sides at least twice as long, and the region shall not be enlarged.
    image = open_image(source, upload_limits(), target_size=math.ceil(MAX_SIDE / 2 / share))
    if region != (0.0, 0.0, 1.0, 1.0):
        width, height = image.size
        left, top = round(region[0] * width), round(region[1] * height)
        right, bottom = round(region[2] * width), round(region[3] * height)
        if min(right - left, bottom - top) < min(_MIN_CROP_PIXELS, width, height):
            raise CropError(_("The chosen part of the photo is too small; choose a larger one."))
        image = image.crop((left, top, right, bottom))
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    buffer = io.BytesIO()
    # Little is gained by packing harder what is read once, a moment later.
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _checked(crop: Sequence[float] | None) -> Crop:
    if crop is None:
        return (0.0, 0.0, 1.0, 1.0)
    try:
        left, top, right, bottom = (float(edge) for edge in crop)
    except (TypeError, ValueError) as error:
        raise CropError(
            _("The part of the photo must be four numbers from 0 to 1: left, top, right and bottom edge.")
        ) from error
    # The comparison is false for NaN too.
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise CropError(
            _(
                "The part of the photo lies outside it or is empty: the edges go from 0 to 1, left before right and "
                "top before bottom."
            )
        )
    return left, top, right, bottom
