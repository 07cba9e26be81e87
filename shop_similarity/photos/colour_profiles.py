"""ICC profiles of colour spaces that a file names by numbers, so that one mechanism brings all colours to sRGB."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

from PIL import ImageCms

MAX_PROFILE_BYTES = 4 * 2**20
"""Larger ICC profiles are ignored. Those of printing presses reach 3 MiB."""

SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""CIE x and y of white, red, green and blue."""
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""The function from stored to linear values, as ICC's parametric curve of type 3: g, a, b, c, d."""

Rows = Sequence[Sequence[float]]

# From XYZ to the responses of the eye's cones (Bradford), and the white of the space between profiles (ICC.1:2010).
_CONES = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_D50 = (0.9642, 1.0, 0.8249)


def is_profile_of(profile: bytes, space: str) -> bool:
    """Whether bytes are an ICC profile of a colour space.

    Args:
        space: ICC's name of four letters, as "RGB " and "GRAY".
    """
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space == space
    # lcms refuses in several ways.
    except Exception:
        return False


def matrix_profile(chromaticities: Sequence[float], curve: Sequence[float]) -> bytes | None:
    """An RGB profile; None where the numbers describe no colours.

    Args:
        chromaticities: CIE x and y of white, red, green and blue.
        curve: the exponent, or five numbers as those of ``SRGB_CURVE``; the same for each channel.
    """
    try:
        columns = _colorants(chromaticities)
        tags = {b"wtpt": _xyz(_D50)} | {
            name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
        }
        return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve)))
    except (ZeroDivisionError, OverflowError, struct.error):
        return None


def grey_profile(curve: Sequence[float]) -> bytes:
    """A profile of grey, with the curve that ``matrix_profile`` knows."""
    return _profile(b"GRAY", {b"wtpt": _xyz(_D50), b"kTRC": _curve(curve)})


def _colorants(chromaticities: Sequence[float]) -> list[tuple[float, ...]]:
    """XYZ of red, green and blue under D50."""
    white, *primaries = ((x / y, 1.0, (1 - x - y) / y) for x, y in zip(*[iter(chromaticities)] * 2, strict=True))
    weights = _times(_inverse(tuple(zip(*primaries, strict=True))), white)
    scale = [after / before for after, before in zip(_times(_CONES, _D50), _times(_CONES, white), strict=True)]
    adapted = []
    for primary, weight in zip(primaries, weights, strict=True):
        cones = _times(_CONES, [value * weight for value in primary])
        adapted.append(_times(_inverse(_CONES), [value * by for value, by in zip(cones, scale, strict=True)]))
    return adapted


def _times(rows: Rows, vector: Sequence[float]) -> tuple[float, ...]:
    return tuple(sum(one * other for one, other in zip(row, vector, strict=True)) for row in rows)


def _inverse(rows: Rows) -> Rows:
    (a, b, c), (d, e, f), (g, h, i) = rows
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    adjugate = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    return [[value / determinant for value in row] for row in adjugate]


def _numbers(values: Sequence[float]) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65_536) for value in values))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + _numbers(values)


def _curve(curve: Sequence[float]) -> bytes:
    kind = 0 if len(curve) == 1 else 3
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _numbers([min(value, 30_000) for value in curve])


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    directory, elements = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for signature, element in tags.items():
        directory += signature + struct.pack(">II", start + len(elements), len(element))
        elements += element
    header = struct.pack(">I4xI", start + len(elements), 0x04200000) + b"mntr" + space + b"XYZ "
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _numbers(_D50)
    return header.ljust(128, b"\0") + directory + elements
