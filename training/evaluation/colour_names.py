"""The colour of what a photo shows, as one of twelve names.

English has eleven basic words for colours (Berlin and Kay, "Basic Color Terms", 1969); shops add beige, which is also
the colour of much skin and wood. Each pixel of the photo's middle is called by the one in whose part of CIELAB it lies,
by lightness, chroma and hue, and the name of most of them counts. Pixels that
look like the photo's border count little, for they are the background.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from shop_similarity.training.triplets.scorers import lab

SIDE = 48
"""Side in pixels of the square that photos are looked at in."""

NAMES = ("black", "grey", "white", "red", "orange", "brown", "beige", "yellow", "green", "blue", "purple", "pink")
BLACK, GREY, WHITE, RED, ORANGE, BROWN, BEIGE, YELLOW, GREEN, BLUE, PURPLE, PINK = range(len(NAMES))

_MIDDLE = 0.4
"""Width and height of the middle, as shares of the photo's."""

_SKIN = 0.5
"""What beige counts: where people wear a product, much of it is their skin."""

# Below this chroma nobody sees a hue; in the dark it takes more.
_GREY_CHROMA, _DARK_CHROMA, _DARK = 11.0, 18.0, 25.0
_BLACK_BELOW, _WHITE_ABOVE = 32.0, 78.0
# Where each hue begins, in degrees; sRGB's red lies at 40, its yellow at 103, green at 136, blue at 306.
_HUES = ((0, PINK), (12, RED), (52, ORANGE), (80, YELLOW), (112, GREEN), (190, BLUE), (298, PURPLE), (345, PINK))


def colour_name(photo: Image.Image) -> str:
    """The name of a photo's colour, one of :data:`NAMES`.

    Args:
        photo: RGB.
    """
    return NAMES[colour_number(photo)]


def colour_number(photo: Image.Image) -> int:
    """The place of :func:`colour_name` in :data:`NAMES`."""
    colours = lab(np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=3.0)))
    border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    edge = round(SIDE * (1 - _MIDDLE) / 2)
    middle = colours[edge:-edge, edge:-edge].reshape(-1, 3)
    distance = np.linalg.norm(middle - np.median(border, axis=0), axis=1)
    # Some of what looks like the background stays: the product may be white too.
    weights = np.clip(distance / 20, 0.05, 1)
    numbers = _numbers(middle)
    weights[numbers == BEIGE] *= _SKIN
    return int(np.bincount(numbers, weights, len(NAMES)).argmax())


def _numbers(colours: np.ndarray) -> np.ndarray:
    """``(n,)`` places in :data:`NAMES` of ``(n, 3)`` CIELAB colours."""
    light, a, b = colours.T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    starts, named = zip(*_HUES, strict=True)
    names = np.array(named)[np.searchsorted(starts, hue, side="right") - 1]
    # Dark, pale or dull, some hues have another name.
    red, orange, yellow, pink = (names == each for each in (RED, ORANGE, YELLOW, PINK))
    names[red & (light > 62)] = PINK
    names[red & (light > 62) & (chroma > 50) & (hue > 30)] = ORANGE
    names[red & (light < 50) & ((hue > 42) | ((hue > 30) & (chroma < 30)))] = BROWN
    names[orange & (light < 58)] = BROWN
    names[yellow & (light < 60)] = GREEN
    names[pink & (light < 40)] = RED
    names[(names == PURPLE) & (hue < 311) & ((chroma > 100) | (light < 22))] = BLUE
    names[(hue > 40) & (hue < 105) & (chroma < 28) & (light > 58)] = BEIGE
    grey = chroma < np.where(light < _DARK, _DARK_CHROMA, _GREY_CHROMA)
    names[grey] = np.where(light < _BLACK_BELOW, BLACK, np.where(light > _WHITE_ABOVE, WHITE, GREY))[grey]
    return names
