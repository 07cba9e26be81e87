"""Safe decoding of product photos that nobody has vouched for.

Whatever bytes come in, :func:`open_image` answers with an 8-bit RGB Pillow image or raises :class:`ImageError` with a
sentence for the shop's staff. Every ``ImageError`` is permanent: the same bytes fail again, so no retry makes sense.
Trouble of the storage (``OSError`` and the storage's own exceptions) passes through untouched, because it may be gone
at the next try; only a file that is not there becomes :class:`ImageMissing`.
"""

from __future__ import annotations

import os

from django.utils.translation import gettext_lazy as _
from PIL import Image

from .contents import Source, content_sha256, read_bytes
from .decoder import decode
from .decoder_pool import decoder_pool
from .errors import (
    DecoderUnavailable,
    ImageError,
    ImageMissing,
    ImageTooLarge,
    ImageTypeNotAllowed,
    ImageUnreadable,
)
from .limits import DEFAULT_LIMITS, ImageLimits

__all__ = [
    "DEFAULT_LIMITS",
    "DecoderUnavailable",
    "ImageError",
    "ImageLimits",
    "ImageMissing",
    "ImageTooLarge",
    "ImageTypeNotAllowed",
    "ImageUnreadable",
    "Source",
    "content_sha256",
    "open_image",
    "read_bytes",
]


def open_image(source: Source, limits: ImageLimits = DEFAULT_LIMITS, target_size: int | None = None) -> Image.Image:
    """Decode a photo the way a browser shows it on a white page.

    The first frame only, of an animation the first that moves; EXIF orientation applied, but not in a WebP;
    transparency composited on white; 16-bit, 32-bit and floating point grey scaled to 8 bits; colours of an embedded
    ICC profile (CMYK presses, Display P3 phones, Adobe RGB cameras), or of a PNG that names them by numbers, brought
    to sRGB. What else is said in the file, broken or not, is ignored. The result carries no metadata and depends on no
    open file.

    Decoding is done in a child process with bounds on its processor time and memory, which is started at the first
    photo and kept for the next (:mod:`shop_similarity.photos.decoder_pool`); on Windows, within this process.

    Args:
        source: see :func:`read_bytes`.
        limits: what is accepted.
        target_size: side in pixels of the square that the photo will be resized to. Given, a larger photo is decoded
            (JPEG ``draft``) or box-reduced by an integer factor that leaves both sides at least twice that long.
            Measured on one thread, JPEG of 1000 x 1000 resized to 224 x 224: 200 photos a second with it, 94 without,
            .42 of 255 mean difference. Without it nothing is shrunk, and a photo that has to be converted or turned
            takes its own size twice.

    Returns:
        RGB image of 8 bits per channel.

    Raises:
        ImageError: see its subclasses; permanent.
        DecoderUnavailable: all child processes are busy or were killed; worth a retry. Is an ``OSError``.
        OSError: the storage failed; worth a retry.
        MemoryError: the machine is short of memory.
    """
    data = read_bytes(source, limits.max_bytes)
    if not data:
        raise ImageUnreadable(_("The file is empty; upload the photo again."))
    if limits.max_seconds and os.name == "posix":
        return decoder_pool().decode(data, limits, target_size)
    return decode(data, limits, target_size)
