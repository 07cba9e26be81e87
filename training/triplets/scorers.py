"""Simple scores of likeness that need no training: colour, outline and texture.

They propose which products of a category might be alike, so that a network has something to learn from where nobody has
said it: VisNet (arXiv 1703.02344, section 4.1) made its triplets by such basic scorers, and MILDNet (arXiv 1903.00905)
learned from the like. The weights of the three are those by which the triplets of the project's own data were made.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from shop_similarity.training.networks import lab as lab_space

COLOUR, OUTLINE, TEXTURE = 0.45, 0.35, 0.2
"""Weights of the Lab histogram, the oriented gradients and the local binary patterns."""

SIDE = 96
"""Side in pixels of the square that photos are scored at."""

_CELL = 12
_ORIENTATIONS = 9


def describe(image: Image.Image) -> np.ndarray:
    """What the three scorers see of a photo.

    Args:
        image: RGB.

    Returns:
        ``(d,)`` ``float32`` of length 1. The dot product of two of them is the weighted sum of the three scores, each
        of 0 to 1; 1 for a photo with itself.
    """
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=3.0))
    # Whole thousandths: whether a step in brightness is above the noise must not hang on the last bit of a sum.
    grey = pixels @ np.array([299, 587, 114]) / 1000
    # Colours need no fine detail: a quarter of the pixels gives the same histogram in a quarter of the time.
    coarse = pixels.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(1, 3))
    parts = (
        (COLOUR, lab_histogram(coarse)),
        (OUTLINE, oriented_gradients(grey)),
        (TEXTURE, binary_patterns(grey)),
    )
    return np.concatenate([np.sqrt(weight) * part for weight, part in parts]).astype(np.float32)


def lab(pixels: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB.

    Args:
        pixels: ``(..., 3)``, 0 to 255.

    Returns:
        ``(..., 3)``: L of 0 to 100, a, b.
    """
    values = np.asarray(pixels, dtype=np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear @ lab_space.RGB_TO_XYZ / lab_space.WHITE
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_histogram(pixels: np.ndarray) -> np.ndarray:
    """Colours of what stands out from the background.

    Args:
        pixels: ``(h, w, 3)`` RGB, 0 to 255.

    Returns:
        ``(486,)`` of length 1: square roots of shares, so that a dot product is the Bhattacharyya coefficient.
    """
    colours = lab(pixels)
    border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    distance = np.linalg.norm(colours - np.median(border, axis=0), axis=-1)
    # Else the white of a studio makes all photos alike. Some of it stays: the product may be white too.
    weights = np.clip(distance / lab_space.FAR, lab_space.LEAST, 1)
    bins, low, high = (np.array(values) for values in (lab_space.BINS, lab_space.LOW, lab_space.HIGH))
    places = (colours - low) / (high - low) * bins - 0.5
    low = np.floor(places).astype(int)
    part = places - low
    histogram = np.zeros(bins.prod())
    # Each pixel is shared among the eight bins around it: a shade more or less must not jump to another bin.
    for corner in np.ndindex(2, 2, 2):
        index = np.clip(low + corner, 0, bins - 1)
        share = np.where(corner, part, 1 - part).prod(axis=-1) * weights
        histogram += np.bincount(
            np.ravel_multi_index(tuple(np.moveaxis(index, -1, 0)), lab_space.BINS).ravel(),
            share.ravel(),
            len(histogram),
        )
    return np.sqrt(histogram / histogram.sum())


def oriented_gradients(grey: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients (Dalal and Triggs, 2005) without overlapping blocks.

    Args:
        grey: ``(h, w)``, both multiples of 12.

    Returns:
        ``(h / 12 * w / 12 * 9,)`` of length 1, or all equal where there is no edge.
    """
    down, right = np.gradient(np.asarray(grey, dtype=np.float64))
    strength = np.hypot(right, down)
    turn = (np.arctan2(down, right) % np.pi) / np.pi * _ORIENTATIONS
    low = np.floor(turn).astype(int)
    part = turn - low
    rows, columns = grey.shape[0] // _CELL, grey.shape[1] // _CELL
    cell = (np.arange(grey.shape[0]) // _CELL)[:, None] * columns + np.arange(grey.shape[1]) // _CELL
    size = rows * columns * _ORIENTATIONS
    histogram = sum(
        np.bincount(
            (cell * _ORIENTATIONS + (low + side) % _ORIENTATIONS).ravel(), (strength * share).ravel(), minlength=size
        )
        for side, share in ((0, 1 - part), (1, part))
    )
    # Roots keep one strong edge from drowning all others.
    return _unit(np.sqrt(histogram))


def binary_patterns(grey: np.ndarray) -> np.ndarray:
    """Uniform local binary patterns of the eight neighbours (Ojala et al., 2002), over the four quarters of a photo.

    Args:
        grey: ``(h, w)``, at least 4 x 4.

    Returns:
        ``(4 * 59,)`` of length 1, square roots of shares.
    """
    grey = np.asarray(grey, dtype=np.float64)
    middle = grey[1:-1, 1:-1]
    codes = np.zeros(middle.shape, dtype=np.int64)
    height, width = middle.shape
    for bit, (y, x) in enumerate(((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))):
        # A step above the noise of a JPEG, or every plain background would be full of patterns.
        codes |= (grey[y : y + height, x : x + width] > middle + 3).astype(np.int64) << bit
    names = _UNIFORM[codes]
    quarter = (np.arange(height) * 2 // height)[:, None] * 2 + np.arange(width) * 2 // width
    histogram = np.bincount((quarter * 59 + names).ravel(), minlength=4 * 59).astype(np.float64).reshape(4, 59)
    # Code 0 is "flat": the background.
    histogram[:, 0] *= 0.05
    return np.sqrt(histogram / max(histogram.sum(), 1e-12)).ravel()


def _uniform_patterns() -> np.ndarray:
    """Number of each of the 256 codes: one of its own with at most two changes around the circle, else the last."""
    names = np.full(256, 58)
    number = 0
    for code in range(256):
        turned = (code >> 1) | ((code & 1) << 7)
        if (code ^ turned).bit_count() <= 2:
            names[code] = number
            number += 1
    return names


_UNIFORM = _uniform_patterns()


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length > 1e-9 else np.full(len(vector), len(vector) ** -0.5)
