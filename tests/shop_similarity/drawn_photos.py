"""Product photos drawn by code: distinct products, several photos of each, the same bytes in every run.

>>> product_photo("mug", "red")                      # JPEG bytes, 64 x 64
>>> product_photo("mug", "red", seed=1)              # another photo of the same mug
>>> photo_file("shirt", "blue", "striped")           # a Django file for a FileField, named shirt-blue-striped-0.jpg
>>> for product in products(20): product.photo()     # twenty different products
"""

import functools
import io
import itertools
import random
from dataclasses import dataclass

from django.core.files.base import ContentFile
from PIL import Image, ImageChops, ImageDraw, ImageFilter

# Outlines in hundredths of the side: (ImageDraw method, coordinates, arguments); "hole" cuts out.
_SHAPES = {
    "shirt": (
        ("polygon", (34, 18, 66, 18, 92, 36, 82, 50, 70, 43, 70, 86, 30, 86, 30, 43, 18, 50, 8, 36), {}),
        ("hole ellipse", (41, 11, 59, 25), {}),
    ),
    "dress": (("polygon", (38, 10, 44, 20, 56, 20, 62, 10, 67, 14, 60, 42, 82, 92, 18, 92, 40, 42, 33, 14), {}),),
    "mug": (
        ("ellipse", (56, 36, 86, 70), {}),
        ("hole ellipse", (64, 44, 78, 62), {}),
        ("rounded_rectangle", (20, 26, 66, 80), {"radius": 5}),
    ),
    "shoe": (
        ("polygon", (10, 40, 34, 38, 52, 54, 80, 60, 92, 70, 92, 76, 10, 76), {}),
        ("rectangle", (10, 78, 93, 83), {}),
    ),
    "lamp": (
        ("polygon", (38, 12, 62, 12, 78, 48, 22, 48), {}),
        ("rectangle", (48, 48, 52, 84), {}),
        ("ellipse", (34, 80, 66, 90), {}),
    ),
    "chair": (
        ("rectangle", (26, 10, 34, 90), {}),
        ("rectangle", (30, 48, 74, 57), {}),
        ("rectangle", (66, 52, 74, 90), {}),
        ("rectangle", (26, 12, 40, 40), {}),
    ),
    "bag": (
        ("ellipse", (36, 12, 64, 56), {}),
        ("hole ellipse", (41, 18, 59, 56), {}),
        ("polygon", (24, 34, 76, 34, 84, 88, 16, 88), {}),
    ),
    "vase": (
        ("ellipse", (28, 40, 72, 90), {}),
        ("polygon", (42, 12, 58, 12, 55, 50, 45, 50), {}),
        ("ellipse", (38, 9, 62, 17), {}),
    ),
}

KINDS = tuple(_SHAPES)
COLOURS = {
    "red": (200, 45, 45),
    "blue": (45, 85, 190),
    "green": (60, 140, 70),
    "yellow": (225, 185, 50),
    "purple": (120, 60, 150),
    "brown": (130, 85, 55),
    "grey": (120, 122, 126),
    "black": (35, 35, 38),
    "pink": (230, 140, 165),
    "teal": (40, 150, 150),
}
PATTERNS = ("plain", "striped", "dotted", "checked")

_SUPERSAMPLING = 4


@dataclass(frozen=True)
class DrawnProduct:
    """One of the products that can be drawn."""

    kind: str
    colour: str
    pattern: str

    @property
    def name(self) -> str:
        """For example ``Striped red mug``."""
        return f"{self.pattern} {self.colour} {self.kind}".capitalize()

    def photo(self, size: tuple[int, int] = (64, 64), seed: int = 0) -> bytes:
        """See :func:`product_photo`."""
        return product_photo(self.kind, self.colour, self.pattern, size, seed)

    def photo_file(self, size: tuple[int, int] = (64, 64), seed: int = 0) -> ContentFile:
        """See :func:`photo_file`."""
        return photo_file(self.kind, self.colour, self.pattern, size, seed)


def products(count: int) -> list[DrawnProduct]:
    """The first ``count`` products: neighbours in the list differ in kind.

    Raises:
        ValueError: there are only kinds x colours x patterns.
    """
    everything = [
        DrawnProduct(kind, colour, pattern) for pattern, colour, kind in itertools.product(PATTERNS, COLOURS, KINDS)
    ]
    if count > len(everything):
        raise ValueError(f"Only {len(everything)} different products can be drawn, not {count}.")
    return everything[:count]


def photo_file(
    kind: str,
    colour: str | tuple[int, int, int],
    pattern: str = "plain",
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
) -> ContentFile:
    """The photo as a Django file that a file field takes."""
    shade = colour if isinstance(colour, str) else "".join(f"{channel:02x}" for channel in colour)
    return ContentFile(product_photo(kind, colour, pattern, size, seed), name=f"{kind}-{shade}-{pattern}-{seed}.jpg")


@functools.lru_cache(maxsize=512)
def product_photo(
    kind: str,
    colour: str | tuple[int, int, int],
    pattern: str = "plain",
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
) -> bytes:
    """JPEG of the product. The same arguments give the same bytes under one version of Pillow."""
    buffer = io.BytesIO()
    product_image(kind, colour, pattern, size, seed).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def product_image(
    kind: str,
    colour: str | tuple[int, int, int],
    pattern: str = "plain",
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
) -> Image.Image:
    """RGB picture of the product before a light background, with shading and a shadow.

    Args:
        kind: one of ``KINDS``.
        colour: one of ``COLOURS`` or red, green, blue in 0..255.
        pattern: one of ``PATTERNS``.
        size: width and height in pixels.
        seed: which photo of the product; moves it, scales it and changes background and light a little.
    """
    dice = random.Random(seed)
    tone = COLOURS[colour] if isinstance(colour, str) else colour
    side = max(size) * _SUPERSAMPLING
    outline = _outline(kind, side, scale=dice.uniform(0.82, 1), shift=(dice.uniform(-4, 4), dice.uniform(-4, 4)))
    ground = dice.randint(232, 252)
    picture = Image.new("RGB", (side, side), (ground, ground, ground - dice.randint(0, 6)))
    shadow = ImageChops.offset(outline, side // 40, side // 25).filter(ImageFilter.BoxBlur(side / 40))
    picture.paste((ground - 60,) * 3, mask=shadow.point(lambda value: value // 2))
    # Light falls from above; how much is up to the photo.
    depth = dice.uniform(0.15, 0.35)
    light = Image.linear_gradient("L").resize((side, side)).point(lambda value: 255 - value * depth)
    picture.paste(ImageChops.multiply(_cloth(tone, pattern, side), Image.merge("RGB", (light,) * 3)), mask=outline)
    left, top = (side - size[0] * _SUPERSAMPLING) // 2, (side - size[1] * _SUPERSAMPLING) // 2
    return picture.crop((left, top, side - left, side - top)).resize(size, Image.Resampling.BOX)


def _outline(kind: str, side: int, scale: float, shift: tuple[float, float]) -> Image.Image:
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    for method, coordinates, arguments in _SHAPES[kind]:
        placed = [
            ((value - 50) * scale + 50 + shift[index % 2]) * side / 100 for index, value in enumerate(coordinates)
        ]
        scaled = {name: value * scale * side / 100 for name, value in arguments.items()}
        fill = 0 if method.startswith("hole ") else 255
        getattr(draw, method.removeprefix("hole "))(placed, fill=fill, **scaled)
    return mask


def _cloth(tone: tuple[int, int, int], pattern: str, side: int) -> Image.Image:
    cloth = Image.new("RGB", (side, side), tone)
    draw = ImageDraw.Draw(cloth)
    light = tuple(channel + (255 - channel) * 3 // 4 for channel in tone)
    step = side // 10
    steps = range(0, side, step)
    match pattern:
        case "plain":
            pass
        case "striped":
            for y in steps:
                draw.rectangle((0, y, side, y + step // 2), fill=light)
        case "dotted":
            for row, y in enumerate(steps):
                for x in range(-(row % 2) * step // 2, side, step):
                    draw.ellipse((x, y, x + step // 2, y + step // 2), fill=light)
        case "checked":
            for row, y in enumerate(steps):
                for x in range(row % 2 * step, side, 2 * step):
                    draw.rectangle((x, y, x + step - 1, y + step - 1), fill=light)
        case _:
            raise ValueError(f"No pattern {pattern!r}; there are {', '.join(PATTERNS)}.")
    return cloth
