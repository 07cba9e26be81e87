"""What a shopper sends: read no further than a photo may be long, checked, made upright and small, without metadata.

It stays in memory: a process that is killed leaves no temporary file with a photo.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.core.files.uploadhandler import MemoryFileUploadHandler, StopUpload
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from PIL import Image

from ..photos.contents import Source
from ..photos.decoding import open_image
from ..photos.errors import ImageError
from ..photos.limits import ImageLimits, upload_limits

MAX_SIDE = 512
"""Longest side in pixels of what the worker gets, more than twice the input of the networks."""

Crop = tuple[float, float, float, float]
"""Left, top, right and bottom edge of a region as parts of 1 of the upright photo."""

WHOLE: Crop = (0.0, 0.0, 1.0, 1.0)
"""All of a photo, where somebody says so."""

# A region of fewer pixels shows nothing that could be recognised.
_MIN_CROP_PIXELS = 16

# Field names, boundaries and the fields beside the photo.
_AROUND_THE_PHOTO = 64 * 2**10
_DISCARD_SECONDS = 2.0
_CHUNK = 64 * 2**10

_FLAG = "_shop_similarity_upload_too_large"


class CropError(ImageError):
    """The region lies outside the photo, is empty, or is no region at all."""


class _InMemory(MemoryFileUploadHandler):
    """In place of Django's own handlers, which put a large file on the disk."""

    def __init__(self, request: HttpRequest, max_bytes: int) -> None:
        super().__init__(request)
        self.left = max_bytes

    def handle_raw_input(self, *args: Any, **kwargs: Any) -> None:
        self.activated = True

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.left -= len(raw_data)
        if self.left < 0:
            setattr(self.request, _FLAG, True)
            # The little that may still come is read and thrown away.
            raise StopUpload(connection_reset=False)
        super().receive_data_chunk(raw_data, start)


def limit_upload(request: HttpRequest, max_bytes: int) -> None:
    """Keep files of this request in memory and have them, all together, end at ``max_bytes``.

    To be called before ``request.POST`` is read.
    """
    # A middleware may have read the body already; then its size is checked like that of any other file.
    with suppress(AttributeError):
        request.upload_handlers = [_InMemory(request, max_bytes)]


def was_too_large(request: HttpRequest) -> bool:
    """Whether an upload was ended by :func:`limit_upload`."""
    return hasattr(request, _FLAG)


def most_bytes_of_body(max_bytes: int) -> int:
    """How long the body of a request with a photo of ``max_bytes`` may be."""
    return max_bytes + _AROUND_THE_PHOTO


def announced_bytes(request: HttpRequest) -> int:
    """The length that a request says its body has. No more is read; 0 where it says none, and none is read."""
    length = request.META.get("CONTENT_LENGTH") or ""
    return int(length) if length.isdecimal() else 0


def discard_body(request: HttpRequest, max_bytes: int) -> None:
    """Read a body that is refused all the same, for most browsers show no answer while they still have to send.

    None of it is kept, and no more is read than a connection of some speed brings in ``_DISCARD_SECONDS``. A body of
    more than twice ``max_bytes`` is no photo that was chosen in good faith, and is left alone.
    """
    left = announced_bytes(request)
    if left > 2 * most_bytes_of_body(max_bytes):
        return
    deadline = time.monotonic() + _DISCARD_SECONDS
    with suppress(OSError):
        while left > 0 and time.monotonic() < deadline and (chunk := request.read(min(left, _CHUNK))):
            left -= len(chunk)


def prepare_photo(source: Source, crop: Sequence[float] | None = None, limits: ImageLimits | None = None) -> bytes:
    """The photo as the worker gets it.

    Args:
        source: bytes, a path, an uploaded file or another binary file; see
            :func:`shop_similarity.photos.contents.read_bytes`. No more of it is read than ``VISUAL_SEARCH_MAX_BYTES``
            allow.
        crop: the region to search with, as :data:`Crop`; the whole photo by default.
        limits: what is accepted; what shoppers may upload by default.

    Returns:
        PNG, RGB, 8 bits, at most ``MAX_SIDE`` pixels long, without metadata.

    Raises:
        ImageError: the photo can't be used; see the subclasses in :mod:`shop_similarity.photos.errors`.
        CropError: the region can't be used.
    """
    region = _checked(crop)
    share = min(region[2] - region[0], region[3] - region[1])
    # Half of it: open_image leaves both sides at least twice as long, and the region shall not be enlarged.
    image = open_image(source, limits or upload_limits(), target_size=math.ceil(MAX_SIDE / 2 / share))
    if region != WHOLE:
        width, height = image.size
        left, top = round(region[0] * width), round(region[1] * height)
        right, bottom = round(region[2] * width), round(region[3] * height)
        if min(right - left, bottom - top) < min(_MIN_CROP_PIXELS, width, height):
            raise CropError(_("The chosen part of the photo is too small; choose a larger one."))
        image = image.crop((left, top, right, bottom))
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return _png(image)


def part_of(photo: bytes, crop: Crop) -> bytes:
    """A part of a photo that :func:`prepare_photo` made, in the same form."""
    return _png(_cut(photo, crop))


def picture_of(photo: bytes, crop: Crop, side: int) -> bytes:
    """A part of a photo that :func:`prepare_photo` made, as a JPEG of at most ``side`` pixels."""
    image = _cut(photo, crop)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _cut(photo: bytes, crop: Crop) -> Image.Image:
    with Image.open(io.BytesIO(photo), formats=("PNG",)) as image:
        width, height = image.size
        left, top = math.floor(crop[0] * width), math.floor(crop[1] * height)
        return image.crop((left, top, max(left + 1, round(crop[2] * width)), max(top + 1, round(crop[3] * height))))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # Little is gained by packing harder what is read once, a moment later.
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _checked(crop: Sequence[float] | None) -> Crop:
    if crop is None:
        return WHOLE
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
