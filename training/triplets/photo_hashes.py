"""Finding photos that show the same picture: equal bytes, and pictures that were resized or saved anew.

The perceptual hash is a difference hash (N. Krawetz, "Kind of Like That", 2013) of 17 x 17 grey values, across and
down, 512 bits. Two things are different from the usual one, because product photos are mostly white. A bit is set only
where brightness changes clearly, else the noise of JPEG in white areas would decide; and the bits that both have are
counted, else all small things on white would be alike. The colours of 8 x 8 fields must agree as well: the same shirt
in another colour is another photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 16
DECODED_AT = 64
# Of 255: a step in brightness that JPEG's noise does not make.
_STEP = 4
# Of 300 real photos saved anew at 70 % of the size and JPEG quality 60 these find 300, at 40 % and quality 85 299.
# Among 4,312 real photos they find 12 pairs, all of them one photo in which a small part has another colour.
SHARED_BITS = 0.75
COLOUR_DIFFERENCE = 10
_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Picture:
    """What a photo shows, as far as it takes to find it again.

    Attributes:
        sha256: of its bytes, 64 hexadecimal digits.
        hash: 64 bytes, :func:`difference_hash` with eight bits in each.
        colours: 192 bytes, :func:`colour_fields`.
    """

    sha256: str
    hash: bytes
    colours: bytes


def picture_of(sha256: str, photo: Image.Image) -> Picture:
    """The picture of a decoded photo; at ``DECODED_AT`` pixels a side it tells as much as at its full size."""
    return Picture(sha256, np.packbits(difference_hash(photo)).tobytes(), colour_fields(photo).tobytes())


def same_pictures(left: Sequence[Picture], right: Sequence[Picture] | None = None) -> np.ndarray:
    """As :func:`near_pairs`, of pictures."""
    return near_pairs(*_arrays(left), *([] if right is None else _arrays(right)))


def _arrays(pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray]:
    hashes, colours = (
        np.frombuffer(b"".join(values), dtype=np.uint8).reshape(len(pictures), size)
        for values, size in (((each.hash for each in pictures), 64), ((each.colours for each in pictures), 192))
    )
    return np.unpackbits(hashes, axis=1).astype(bool), colours


def difference_hash(photo: Image.Image) -> np.ndarray:
    """``(512,)`` bool: where a photo grows clearly darker from left to right, then from top to bottom."""
    grey = np.asarray(photo.convert("L").resize((SIDE + 1, SIDE + 1), Image.Resampling.BOX), dtype=np.int16)
    across = grey[:SIDE, :SIDE] - grey[:SIDE, 1:] > _STEP
    down = grey[:SIDE, :SIDE] - grey[1:, :SIDE] > _STEP
    return np.concatenate([across.ravel(), down.ravel()])


def colour_fields(photo: Image.Image) -> np.ndarray:
    """``(192,)`` uint8: mean RGB colour of 8 x 8 fields."""
    return np.asarray(photo.convert("RGB").resize((8, 8), Image.Resampling.BOX), dtype=np.uint8).ravel()


def near_pairs(
    hashes: np.ndarray,
    colours: np.ndarray,
    other_hashes: np.ndarray | None = None,
    other_colours: np.ndarray | None = None,
) -> np.ndarray:
    """Pairs of photos that show the same picture, as far as hashes tell.

    Args:
        hashes: ``(n, 512)`` bool.
        colours: ``(n, 192)`` uint8.
        other_hashes: ``(m, 512)``, to look for pairs between two sets; by default within the one.
        other_colours: ``(m, 192)``.

    Returns:
        ``(p, 2)`` places, ascending; within one set each pair once, the smaller place first.
    """
    within = other_hashes is None
    right = hashes if other_hashes is None else other_hashes
    right_colours = colours if other_colours is None else other_colours
    bits = right.astype(np.float32)
    counts = bits.sum(axis=1)
    places = []
    for start in range(0, len(hashes), _AT_ONCE):
        left = hashes[start : start + _AT_ONCE].astype(np.float32)
        shared = left @ bits.T
        either = left.sum(axis=1)[:, None] + counts[None, :] - shared
        # A photo without any edge is compared by its colours alone.
        alike = shared >= SHARED_BITS * either
        if within:
            alike &= np.arange(len(right))[None, :] > np.arange(start, start + len(left))[:, None]
        pairs = np.argwhere(alike)
        pairs[:, 0] += start
        places.append(pairs[_same_colours(pairs, colours, right_colours)])
    return np.concatenate(places) if places else np.zeros((0, 2), dtype=np.intp)


def _same_colours(pairs: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    same = np.empty(len(pairs), dtype=bool)
    for start in range(0, len(pairs), 65_536):
        part = pairs[start : start + 65_536]
        difference = np.abs(left[part[:, 0]].astype(np.int16) - right[part[:, 1]])
        # The edge between thing and background may move by part of a field: a few fields may differ more.
        same[start : start + 65_536] = np.quantile(difference, 0.95, axis=1) <= COLOUR_DIFFERENCE
    return same
