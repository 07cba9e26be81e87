"""Contact sheets: rows of small photos with their distances, as one picture.

>>> sheet([triplet_row(query, positive, negative, 0.21, 0.74)])   # bytes of a JPEG

Whatever a photo is, the sheet is made: where one is missing or can't be read, a grey box says so.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from shop_similarity.photos.decoding import DEFAULT_LIMITS, ImageError, ImageLimits, ImageMissing, open_image

THUMBNAIL = 144
"""Side in pixels of the square that a photo is fitted into."""

_PAPER, _INK, _QUIET = (255, 255, 255), (32, 33, 36), (95, 99, 104)
_MISSING = (222, 224, 227)
# Frames differ in width and are named in words too, for those who can't tell the colours apart.
_FRAMES = {"query": ((60, 64, 67), 2), "hit": ((24, 128, 56), 5), "miss": ((197, 34, 31), 5)}
_GAP = 10
_LINE = 16
_FONT_SIZE = 13


@dataclass(frozen=True)
class Tile:
    """One photo of a row.

    Attributes:
        path: the file; None leaves the place empty.
        lines: what stands below it, cut to its width.
        frame: ``"query"``, ``"hit"``, ``"miss"``, or None for no frame.
    """

    path: Path | None
    lines: tuple[str, ...] = ()
    frame: str | None = None


def triplet_row(
    query: Path, positive: Path, negative: Path, positive_distance: float, negative_distance: float
) -> list[Tile]:
    """A triplet; the positive is framed as a hit where it is nearer to the query than the negative, else as a miss."""
    frame = "hit" if positive_distance < negative_distance else "miss"
    return [
        Tile(query, ("query",), "query"),
        Tile(positive, (f"positive  {positive_distance:.3f}",), frame),
        Tile(negative, (f"negative  {negative_distance:.3f}",)),
    ]


def ranking_row(query: Path, results: Sequence[tuple[Path, float, int]]) -> list[Tile]:
    """A query and its results, nearest first.

    Args:
        results: of each the photo, its distance from the query and its relevance: 2 exact, 1 partial, 0 none.
    """
    words = {0: "", 1: "  partial hit", 2: "  hit"}
    return [
        Tile(query, ("query",), "query"),
        *(
            Tile(path, (f"{place}{words[relevance]}", f"{distance:.3f}"), "hit" if relevance else None)
            for place, (path, distance, relevance) in enumerate(results, start=1)
        ),
    ]


def sheet(
    rows: Sequence[Sequence[Tile]],
    thumbnail: int = THUMBNAIL,
    image_format: str = "JPEG",
    limits: ImageLimits = DEFAULT_LIMITS,
) -> bytes:
    """Draw rows of photos below each other.

    Args:
        rows: may differ in length.
        thumbnail: side in pixels of the square that each photo is fitted into.
        image_format: ``"JPEG"`` or ``"PNG"``.
        limits: what a photo may be; one beyond them is drawn as unreadable.

    Returns:
        The bytes of the picture.

    Raises:
        ValueError: there is no row with a tile.
    """
    if not any(rows):
        raise ValueError("A contact sheet needs a row with a photo.")
    font: Any = ImageFont.load_default(_FONT_SIZE)
    cell = thumbnail + _GAP
    text_lines = max((len(tile.lines) for row in rows for tile in row), default=0)
    row_height = thumbnail + text_lines * _LINE + _GAP
    picture = Image.new("RGB", (max(map(len, rows)) * cell + _GAP, _GAP + len(rows) * row_height), _PAPER)
    draw = ImageDraw.Draw(picture)
    photos: dict[Path, Image.Image] = {}
    for number, row in enumerate(rows):
        for place, tile in enumerate(row):
            if tile.path is None:
                continue
            if tile.path not in photos:
                photos[tile.path] = _thumbnail(tile.path, thumbnail, limits, font)
            left, upper = _GAP + place * cell, _GAP + number * row_height
            _draw_tile(picture, draw, tile, photos[tile.path], (left, upper), thumbnail, font)
    stream = io.BytesIO()
    picture.save(stream, image_format, quality=82, optimize=True)
    return stream.getvalue()


def _draw_tile(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    tile: Tile,
    photo: Image.Image,
    corner: tuple[int, int],
    thumbnail: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    left, upper = corner
    picture.paste(photo, (left + (thumbnail - photo.width) // 2, upper + (thumbnail - photo.height) // 2))
    if tile.frame:
        colour, stroke = _FRAMES[tile.frame]
        draw.rectangle((left, upper, left + thumbnail - 1, upper + thumbnail - 1), outline=colour, width=stroke)
    for line, text in enumerate(tile.lines):
        at = (left, upper + thumbnail + 2 + line * _LINE)
        draw.text(at, _fitted(text, font, thumbnail), fill=_INK if line == 0 else _QUIET, font=font)


def _thumbnail(path: Path, side: int, limits: ImageLimits, font: ImageFont.FreeTypeFont) -> Image.Image:
    try:
        photo = open_image(path, limits, target_size=side)
    except ImageMissing:
        return _grey_box("missing", side, font)
    # A name with a null byte is a ValueError.
    except (ImageError, OSError, ValueError):
        return _grey_box("unreadable", side, font)
    photo.thumbnail((side, side), Image.Resampling.BICUBIC)
    return photo


def _grey_box(word: str, side: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    box = Image.new("RGB", (side, side), _MISSING)
    ImageDraw.Draw(box).text((side / 2, side / 2), f"photo\n{word}", fill=_INK, font=font, anchor="mm", align="center")
    return box


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    text = " ".join(text.splitlines())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
