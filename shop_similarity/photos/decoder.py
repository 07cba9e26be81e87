"""From the bytes of a photo to its pixels, in the process that asks.

:func:`~shop_similarity.photos.decoding.open_image` has this done in a process of its own, for hostile bytes may find a
way to take the time or the memory of a decoder, or to crash it.

The defences are those of Pillow's security guide: parts are counted before Pillow takes them apart, ``formats`` is
always given, pixels are counted after the lazy open and before any are decoded. All limits travel as arguments. No
global of Pillow or of :mod:`warnings` is changed, so that threads can decode side by side.
"""

from __future__ import annotations

import math
import re

from django.utils.translation import gettext_lazy as _
from PIL import Image, ImageChops, UnidentifiedImageError

from .diagnosis import undecodable, unidentified
from .errors import ImageError, ImageTooLarge
from .limits import ImageLimits
from .opened import opened
from .pixels import upright_srgb
from .png import has_all_rows, still_png
from .structure import has_too_many_parts, webp_size

MAX_JPEG_SCANS = 100
"""Encoders write about ten scans. Each further one costs a pass over all pixels and a few bytes of file."""
MAX_SCANNED_PIXELS = 1_200_000_000
"""Pixels x scans of a JPEG that has more than ``USUAL_JPEG_SCANS``."""
USUAL_JPEG_SCANS = 24
"""Of a JPEG of any size; encoders write 18 of a photo in four inks."""

DECODER_BYTES = {"WEBP": 16, "AVIF": 12, "bmp_rle": 32}
"""Bytes that Pillow's decoder takes for a pixel, measured, where it is more than ``USUAL_DECODER_BYTES``.

That of compressed BMP takes no bytes but time, .07 s a megapixel and in Python.
"""
USUAL_DECODER_BYTES = 8
MAX_DECODED_BYTES = 400_000_000
"""Beyond so many bytes, a format whose decoder takes more than others may have fewer pixels than they."""


def decode(data: bytes, limits: ImageLimits, target_size: int | None = None) -> Image.Image:
    """Decode a photo here and now; arguments, result and errors as those of ``open_image``."""
    if has_too_many_parts(data):
        raise ImageTooLarge(
            _(
                "The file consists of more parts than cameras and programs write; "
                "save the photo anew as JPEG or PNG and upload it again."
            )
        )
    # Pillow has the whole canvas of a WebP made before it says how large it is.
    if size := webp_size(data):
        _check_size(*size, limits.max_pixels)
    try:
        return _decoded(data, limits, target_size)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise unidentified(data, limits.formats) from error
    # Pillow's warning arrives as an exception where the process runs with warnings as errors.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            _("The photo has more pixels than this server decodes; save it smaller and upload it again.")
        ) from error
    # The bytes are in memory, so whatever a decoder raises (OSError included) comes from the photo itself.
    except Exception as error:
        if "truncated" in str(error) and (image := _without_end(data, limits, target_size)):
            return image
        raise undecodable(data, error) from error


def _decoded(data: bytes, limits: ImageLimits, target_size: int | None) -> Image.Image:
    with opened(data, limits.formats) as (image, frame):
        if frame:
            _check_size(*frame.size, limits.max_pixels)
        _check_cost(image, data, limits.max_pixels)
        if target_size and image.format in ("JPEG", "MPO"):
            image.draft(image.mode, (2 * target_size, 2 * target_size))
        image.load()
        if image.format == "PNG" and _may_lack_rows(image) and not has_all_rows(still_png(data).file):
            raise OSError("The rows are truncated.")
        return upright_srgb(image, target_size, frame)


def _may_lack_rows(image: Image.Image) -> bool:
    """Whether the row of a PNG that comes last is empty, as one that is missing is; of an interlaced PNG always."""
    width, height = image.size
    return "interlace" in image.info or not any(image.crop((0, height - 1, width, height)).tobytes())


_JPEG_END = b"\xff\xd9"
_JPEG_RESTARTS = b"\xff\xdd"
# Zeros and ones by turns: of any bit, one of the two says that it is no zero.
_MORE_PIXELS = (b"\xaa" * 64, b"\x55" * 64)


def _without_end(data: bytes, limits: ImageLimits, target_size: int | None) -> Image.Image | None:
    """A JPEG that lacks its end marker and no pixel; None if it lacks more.

    The decoder does not say how far it came: it takes what is missing for zeros. But then other bytes in their place
    make another picture. It skips such bytes where it looks for a restart marker, so files with these are not tried.
    """
    if not data.startswith(b"\xff\xd8\xff") or _JPEG_RESTARTS in data:
        return None
    # Half of the mark, or of a byte that is written as two.
    data = data.rstrip(b"\xff")
    try:
        image = _decoded(data + _JPEG_END, limits, target_size)
        others = (_decoded(data + more + _JPEG_END, limits, target_size) for more in _MORE_PIXELS)
        return image if all(ImageChops.difference(image, other).getbbox() is None for other in others) else None
    except Exception:
        return None


def _check_size(width: int, height: int, max_pixels: int, pixels: int | None = None) -> None:
    if (pixels or width * height) > max_pixels:
        raise ImageTooLarge(
            _(
                "The photo has %(width)s x %(height)s pixels, more than the %(limit)s that are allowed; "
                "save it smaller and upload it again."
            ),
            width=f"{width:,}",
            height=f"{height:,}",
            limit=f"{max_pixels:,}",
        )


def _check_cost(image: Image.Image, data: bytes, max_pixels: int) -> None:
    width, height = image.size
    tags = getattr(image, "tag_v2", {})
    # A small TIFF may be stored in one gigantic tile.
    tile = (tags.get(322, 0), tags.get(323, 0))
    pixels = max(width * height, math.prod(side if isinstance(side, int) else 0 for side in tile))
    _check_size(width, height, max_pixels, pixels)
    decoders = (image.format, *(tile[0] for tile in getattr(image, "tile", ())[:1]))
    of_pixel = max(DECODER_BYTES.get(decoder or "", USUAL_DECODER_BYTES) for decoder in decoders)
    most = max(min(max_pixels, MAX_DECODED_BYTES // of_pixel), max_pixels * USUAL_DECODER_BYTES // of_pixel)
    if pixels > most:
        raise ImageTooLarge(
            _(
                "The photo has %(width)s x %(height)s pixels, more than the %(limit)s that are allowed in a %(format)s "
                "file; save it smaller or as JPEG and upload it again."
            ),
            width=f"{width:,}",
            height=f"{height:,}",
            limit=f"{most:,}",
            format=image.format,
        )
    most_scans = min(MAX_JPEG_SCANS, max(MAX_SCANNED_PIXELS // pixels, USUAL_JPEG_SCANS))
    if image.format in ("JPEG", "MPO") and _has_too_many_scans(data, most_scans):
        raise ImageTooLarge(
            _(
                "The JPEG consists of more than %(limit)s scans, which no camera writes; "
                "save the photo anew and upload it again."
            ),
            limit=most_scans,
        )


# Inside entropy-coded data 0xFF is followed by 0x00 or a restart marker; all else ends a scan.
# The last of several 0xFF is enough: to look for all of them takes the square of their number where no marker follows.
_NEXT_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def _has_too_many_scans(data: bytes, most: int = MAX_JPEG_SCANS) -> bool:
    """Whether the first picture of a JPEG has more than ``most`` scans (libjpeg-turbo's report LJT-01-004).

    Segments are skipped by their lengths, because thumbnails and appended films contain markers of their own.
    """
    if data.count(b"\xff\xda") <= most:
        return False
    scans, position = 0, 2
    while marker := _NEXT_MARKER.search(data, position):
        code, position = marker[1][0], marker.end()
        if code == _END_OF_IMAGE:
            break
        if code == _START_OF_SCAN:
            scans += 1
            if scans > most:
                return True
        if code != 0xD8 and code != 0x01:
            position += int.from_bytes(data[position : position + 2], "big")
    return False
