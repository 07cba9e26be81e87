"""A photo's file opened by Pillow, for those who decode it and those who ask for its size alone."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile

from .png import SIGNATURE, Frame, StillPng, still_png
from .structure import webp_first_frame


@contextmanager
def opened(data: bytes, formats: tuple[str, ...]) -> Iterator[tuple[Image.Image, Frame | None]]:
    """The photo before its pixels are decoded, and where it lies in the whole; None where it is the whole.

    Args:
        data: the file, whose parts have been counted (:mod:`shop_similarity.photos.structure`).
        formats: Pillow's names.

    Raises:
        Exception: whatever Pillow raises.
    """
    png = still_png(data) if data.startswith(SIGNATURE) else StillPng(data)
    with Image.open(io.BytesIO(png.file), formats=_installed(formats)) as image:
        if image.format == "PNG":
            image.info["icc_profile"] = png.profile
        frame = png.frame or _frame(image, data)
        yield image, None if frame and frame.box == (0, 0, *frame.size) else frame


@functools.cache
def _installed(formats: tuple[str, ...]) -> tuple[str, ...]:
    """``formats`` without those whose codec this build of Pillow lacks: ``Image.open`` fails on unknown names."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


def _frame(image: Image.Image, data: bytes) -> Frame | None:
    box = webp_first_frame(data) if image.format == "WEBP" else None
    if isinstance(image, ImageFile.ImageFile) and image.format == "GIF" and image.tile:
        box = image.tile[0][1]
    if box is None:
        return None
    # Decoders of WebP go by the size in the picture's own data, and never look whether the frame's lies in the whole.
    left, top, right, bottom = box[0], box[1], min(box[2], image.width), min(box[3], image.height)
    return Frame(image.size, (left, top, right, bottom)) if left < right and top < bottom else None
