"""Drawn goods whose colour, pattern and shape are known, to find out what a network's features say about each.

They come in families of five pictures: one, and four that differ from it in a single thing, its colour, its pattern,
its shape, or none of these (light, place, size and ground). Everything is drawn at random, so that no two families
are alike, and is the same for the same seed.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# What the pictures of a family are, in their order.
MEMBERS = ("base", "colour", "pattern", "shape", "setting")

_OVERSAMPLED = 3
_Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Good:
    """One picture.

    Attributes:
        colour: RGB, 0 to 255.
        pattern: a key of :data:`PATTERNS`.
        contrast: RGB of the pattern's second colour relative to the first: -1 (darker) to 1 (lighter).
        scale, angle: of the pattern; scale in parts of the side.
        shape: a key of :data:`SHAPES`.
        stretch: width of the shape relative to its height.
        ground: RGB of the ground.
        place: centre, in parts of the side.
        size: height of the shape in parts of the side.
        light: from which side the picture is lit, -1 to 1.
    """

    colour: tuple[int, int, int]
    pattern: str
    contrast: float
    scale: float
    angle: float
    shape: str
    stretch: float
    ground: tuple[int, int, int]
    place: tuple[float, float]
    size: float
    light: float


def families(count: int, size: int, seed: int = 0) -> Iterator[list[Image.Image]]:
    """``count`` families of five ``size`` x ``size`` RGB pictures, in the order of :data:`MEMBERS`."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield [draw(good, size) for good in family(random)]


def family(random: np.random.Generator) -> list[Good]:
    """One good and the four that differ from it in one thing."""
    base = Good(**_colour(random), **_pattern(random), **_shape(random), **_setting(random))
    colour = _other(lambda: _colour(random), lambda values: _distance(values["colour"], base.colour) > 90)
    pattern = _other(lambda: _pattern(random), lambda values: values["pattern"] != base.pattern)
    shape = _other(lambda: _shape(random), lambda values: values["shape"] != base.shape)
    return [
        base,
        replace(base, **colour),
        replace(base, **pattern),
        replace(base, **shape),
        replace(base, **_setting(random)),
    ]


def draw(good: Good, size: int) -> Image.Image:
    """A good as an RGB picture of ``size`` x ``size`` pixels."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    first = np.array(good.colour, np.float32)
    edge = np.float32(255 if good.contrast > 0 else 0)
    second = first + abs(good.contrast) * (edge - first)
    turned_x = (x - 0.5) * math.cos(good.angle) + (y - 0.5) * math.sin(good.angle)
    turned_y = -(x - 0.5) * math.sin(good.angle) + (y - 0.5) * math.cos(good.angle)
    mark = PATTERNS[good.pattern](turned_x / good.scale, turned_y / good.scale)
    # A soft fold, a shadow and light from one side keep it from looking cut out of paper.
    fold = 1 - 0.14 * np.cos(7 * x + 5 * y + 3 * good.light)
    cloth = np.where(mark[..., None], second, first) * fold[..., None]
    mask = _mask(good, size)
    fallen = np.roll(np.asarray(mask.filter(ImageFilter.BoxBlur(size / 50))), size // 40, axis=0)
    ground = np.array(good.ground, np.float32) * (1 - 0.25 / 255 * fallen.astype(np.float32))[..., None]
    covered = (np.asarray(mask, np.float32) / 255)[..., None]
    light = 1 + 0.18 * good.light * (x - 0.5)
    pixels = (ground + covered * (cloth - ground)) * light[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _colour(random: np.random.Generator) -> dict:
    # Greys, black and white are colours of goods too, and a large part of them.
    if random.random() < 0.2:
        value = random.uniform(0.08, 0.95)
        rgb = (value, value, value)
    else:
        rgb = colorsys.hsv_to_rgb(random.random(), random.uniform(0.45, 1), random.uniform(0.3, 0.95))
    return {"colour": tuple(round(255 * channel) for channel in rgb)}


def _pattern(random: np.random.Generator) -> dict:
    # Plain goods are as frequent as patterned ones.
    names = [name for name in PATTERNS if name != "plain"]
    name = "plain" if random.random() < 0.4 else names[random.integers(len(names))]
    return {
        "pattern": name,
        "contrast": float(random.choice([-1, 1]) * random.uniform(0.45, 0.9)),
        "scale": float(random.uniform(0.05, 0.16)),
        "angle": float(random.choice([0, math.pi / 2, random.uniform(0, math.pi)])),
    }


def _shape(random: np.random.Generator) -> dict:
    names = sorted(SHAPES)
    return {"shape": names[random.integers(len(names))], "stretch": float(random.uniform(0.75, 1.2))}


def _setting(random: np.random.Generator) -> dict:
    value = random.uniform(0.8, 1)
    tint = random.uniform(0, 0.06, 3)
    return {
        "ground": tuple(int(255 * max(0.0, value - part)) for part in tint),
        "place": tuple(float(0.5 + random.uniform(-0.07, 0.07)) for _ in range(2)),
        "size": float(random.uniform(0.55, 0.88)),
        "light": float(random.uniform(-1, 1)),
    }


def _other(make: Callable[[], dict], differs: Callable[[dict], bool]) -> dict:
    while not differs(values := make()):
        pass
    return values


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    return math.dist(one, other)


def _mask(good: Good, size: int) -> Image.Image:
    side = size * _OVERSAMPLED
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    for points, fill in SHAPES[good.shape]:
        placed = [
            (
                side * (good.place[0] + (px - 0.5) * good.size * good.stretch),
                side * (good.place[1] + (py - 0.5) * good.size),
            )
            for px, py in points
        ]
        pen.polygon(placed, fill=fill)
    return image.resize((size, size), Image.Resampling.BOX)


PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": lambda x, y: np.zeros(x.shape, bool),
    "stripes": lambda x, y: (x % 1) < 0.5,
    "pinstripes": lambda x, y: (x % 1) < 0.18,
    "dots": lambda x, y: np.hypot((x + 0.5 * (np.floor(y) % 2)) % 1 - 0.5, y % 1 - 0.5) < 0.28,
    "checks": lambda x, y: (np.floor(x) + np.floor(y)) % 2 > 0,
    "grid": lambda x, y: ((x % 1) < 0.16) | ((y % 1) < 0.16),
    "zigzag": lambda x, y: ((y + np.abs(2 * (x % 1) - 1)) % 1) < 0.45,
    "waves": lambda x, y: ((y + 0.35 * np.sin(2 * np.pi * x)) % 1) < 0.5,
    "diamonds": lambda x, y: (np.abs(x % 1 - 0.5) + np.abs(y % 1 - 0.5)) < 0.32,
    "scales": lambda x, y: (np.hypot((x + 0.5 * (np.floor(y) % 2)) % 1 - 0.5, y % 1) % 0.5) < 0.2,
    "camouflage": lambda x, y: np.sin(2.1 * x + 1.7 * np.sin(1.3 * y)) + np.sin(2.4 * y + 1.9 * np.sin(1.1 * x)) > 0.3,
}


def _ring(points: int, radius: Callable[[float], float], squeeze: float = 1.0) -> _Points:
    angles = [2 * math.pi * place / points for place in range(points)]
    return [
        (0.5 + squeeze * radius(angle) * math.sin(angle), 0.5 - radius(angle) * math.cos(angle)) for angle in angles
    ]


def _mirrored(left: _Points) -> _Points:
    return left + [(1 - x, y) for x, y in reversed(left)]


_ROUND = _ring(48, lambda angle: 0.48)
# Outlines in parts of a square: polygons, 255 to fill and 0 to cut out, one after another.
SHAPES: dict[str, list[tuple[_Points, int]]] = {
    "ball": [(_ROUND, 255)],
    "box": [([(0.08, 0.12), (0.92, 0.12), (0.92, 0.9), (0.08, 0.9)], 255)],
    "ring": [(_ROUND, 255), (_ring(48, lambda angle: 0.26), 0)],
    "star": [(_ring(10, lambda angle: 0.5 if round(angle / (math.pi / 5)) % 2 == 0 else 0.22), 255)],
    "flower": [(_ring(120, lambda angle: 0.36 + 0.13 * math.cos(6 * angle)), 255)],
    "bottle": [
        (
            _mirrored(
                [(0.44, 0.0), (0.44, 0.22), (0.34, 0.36), (0.32, 0.45), (0.32, 0.96), (0.36, 1.0)],
            ),
            255,
        )
    ],
    "trousers": [
        ([(0.24, 0.02), (0.76, 0.02), (0.84, 1.0), (0.6, 1.0), (0.5, 0.34), (0.4, 1.0), (0.16, 1.0)], 255),
    ],
    "sweater": [
        (
            _mirrored(
                [(0.38, 0.06), (0.26, 0.08), (0.02, 0.66), (0.14, 0.72), (0.28, 0.42), (0.27, 0.94)],
            ),
            255,
        ),
        (_ring(32, lambda angle: 0.1), 255),
    ],
    "singlet": [
        (
            _mirrored(
                [(0.47, 0.26), (0.4, 0.2), (0.38, 0.02), (0.3, 0.02), (0.3, 0.24), (0.2, 0.4), (0.2, 0.98)],
            ),
            255,
        )
    ],
    "skirt": [([(0.34, 0.06), (0.66, 0.06), (0.95, 0.94), (0.05, 0.94)], 255)],
    "boot": [
        (
            [
                (0.3, 0.02), (0.58, 0.02), (0.58, 0.6), (0.9, 0.74), (0.94, 0.9), (0.94, 0.96), (0.28, 0.96),
                (0.3, 0.6),
            ],
            255,
        )
    ],
    "sandal": [
        ([(0.02, 0.76), (0.98, 0.7), (0.98, 0.82), (0.02, 0.86)], 255),
        ([(0.1, 0.78), (0.3, 0.4), (0.42, 0.44), (0.28, 0.78)], 255),
        ([(0.55, 0.76), (0.68, 0.5), (0.84, 0.54), (0.8, 0.76)], 255),
    ],
    "hat": [
        ([(0.28, 0.62), (0.32, 0.26), (0.5, 0.18), (0.68, 0.26), (0.72, 0.62)], 255),
        (_mirrored([(0.2, 0.6), (0.0, 0.68), (0.2, 0.78)]), 255),
    ],
    "backpack": [
        (_mirrored([(0.38, 0.1), (0.22, 0.2), (0.16, 0.4), (0.16, 0.94)]), 255),
        ([(0.42, 0.1), (0.42, 0.0), (0.58, 0.0), (0.58, 0.1)], 255),
        ([(0.3, 0.52), (0.7, 0.52), (0.7, 0.56), (0.3, 0.56)], 0),
    ],
    "umbrella": [
        ([(0.5 + 0.5 * math.cos(math.pi * k / 24), 0.52 - 0.46 * math.sin(math.pi * k / 24)) for k in range(25)], 255),
        ([(0.48, 0.5), (0.52, 0.5), (0.52, 0.98), (0.48, 0.98)], 255),
    ],
    "table": [
        ([(0.02, 0.3), (0.98, 0.3), (0.98, 0.4), (0.02, 0.4)], 255),
        ([(0.1, 0.4), (0.18, 0.4), (0.18, 0.92), (0.1, 0.92)], 255),
        ([(0.82, 0.4), (0.9, 0.4), (0.9, 0.92), (0.82, 0.92)], 255),
    ],
    "pan": [
        ([(0.36 * math.cos(k / 6) + 0.36, 0.5 + 0.34 * math.sin(k / 6)) for k in range(38)], 255),
        ([(0.7, 0.45), (1.0, 0.45), (1.0, 0.55), (0.7, 0.55)], 255),
    ],
    "heart": [
        (
            [
                (0.5 + 0.03 * 16 * math.sin(t) ** 3, 0.46 - 0.03 * (13 * math.cos(t) - 5 * math.cos(2 * t)
                 - 2 * math.cos(3 * t) - math.cos(4 * t)))
                for t in [2 * math.pi * k / 60 for k in range(60)]
            ],
            255,
        )
    ],
    "watch": [
        ([(0.4, 0.0), (0.6, 0.0), (0.6, 1.0), (0.4, 1.0)], 255),
        (_ring(40, lambda angle: 0.24), 255),
        (_ring(40, lambda angle: 0.17), 0),
        (_ring(40, lambda angle: 0.13), 255),
    ],
    "spectacles": [
        ([(0.24 + 0.22 * math.cos(k / 5), 0.5 + 0.2 * math.sin(k / 5)) for k in range(32)], 255),
        ([(0.76 + 0.22 * math.cos(k / 5), 0.5 + 0.2 * math.sin(k / 5)) for k in range(32)], 255),
        ([(0.42, 0.46), (0.58, 0.46), (0.58, 0.5), (0.42, 0.5)], 255),
    ],
}  # fmt: skip
