"""Photos that visitors of a measurement search with and save: drawn, each another, small or as large as is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def small_photos(folder: Path, count: int = 24) -> Path:
    """Files of about 60 KB, 800 x 800 pixels."""
    from catalog.sources.drawn import COLOURS, KINDS, PATTERNS, draw_product

    folder.mkdir(parents=True)
    colours = list(COLOURS.values())
    for number in range(count):
        kind, pattern = KINDS[number % len(KINDS)], PATTERNS[number % len(PATTERNS)]
        picture = draw_product(kind, colours[(number * 5 + 3) % len(colours)], pattern, number, 0.8)
        picture.save(folder / f"{number:02}.jpg", quality=88)
    return folder


def large_photos(folder: Path, count: int = 4) -> Path:
    """Files of about 9 MB and 48 megapixels, just within what the search accepts."""
    folder.mkdir(parents=True)
    dice = np.random.default_rng(0)
    for number in range(count):
        rough = dice.integers(0, 256, (600, 800, 3), dtype=np.uint8)
        picture = Image.fromarray(rough).resize((8_000, 6_000), Image.Resampling.BICUBIC)
        for quality in (95, 90, 85, 75, 60, 40):
            picture.save(folder / f"{number}.jpg", quality=quality)
            if (folder / f"{number}.jpg").stat().st_size < 9_500_000:
                break
    return folder
