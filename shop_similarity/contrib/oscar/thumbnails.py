"""Small copies of photos by the thumbnailer that Oscar itself uses (sorl, easy-thumbnails or the shop's own)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def copies(file: Any, widths: Sequence[int]) -> list[tuple[str, int, int]]:
    """``THUMBNAILS``: address, width and height in pixels of a copy for each width; no photo is enlarged.

    Empty where the thumbnailer can make none, so that the card has a placeholder.
    """
    from oscar.core.thumbnails import get_thumbnailer

    thumbnailer = get_thumbnailer()
    made = [thumbnailer.generate_thumbnail(file, size=f"{width}x", upscale=False) for width in widths]
    # Of a photo that is missing or damaged sorl gives a copy without a size, and an address that leads nowhere.
    if not all(getattr(copy, "size", None) for copy in made):
        return []
    return [(copy.url, copy.width, copy.height) for copy in made]
