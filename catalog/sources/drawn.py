"""The demo's last resort: a small home shop whose pictures are drawn here, for machines that can fetch nothing."""

import csv
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from django.utils.translation import gettext as _
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from tqdm import tqdm

from catalog.product_csv import FILE_NAME
from catalog.sources.errors import SourceError

EDITION = "drawn-1"  # rename it when the pictures change, or those kept from before are shown
SIZE = 1000
SHOWN = 800

COLOURS = {
    "Clay": (190, 98, 71),
    "Moss": (104, 122, 82),
    "Ocean": (52, 98, 130),
    "Mustard": (214, 164, 61),
    "Plum": (112, 66, 96),
    "Charcoal": (66, 68, 72),
    "Rose": (214, 143, 143),
    "Sand": (205, 184, 152),
}
PATTERNS = ("Plain", "Striped", "Dotted", "Checked", "Zigzag", "Banded")
GROUNDS = ((240, 238, 234), (229, 234, 236), (238, 232, 226))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of product: where it stands in the shop, what it costs, the shape's parts in thousandths of the side."""

    name: str
    category: str
    price: int
    parts: tuple[tuple, ...]


# A part is (ImageDraw method, coordinates, further arguments); "hole" before the method cuts out.
KINDS = (
    Kind("Mug", "Kitchen / Cups", 14, (
        ("rounded_rectangle", (270, 300, 650, 760), {"radius": 50}),
        ("ellipse", (580, 380, 810, 670), {}),
        ("hole ellipse", (640, 440, 750, 610), {}),
        ("rounded_rectangle", (270, 300, 650, 760), {"radius": 50}),
    )),
    Kind("Bowl", "Kitchen / Tableware", 19, (
        ("pieslice", (190, 100, 810, 760), {"start": 0, "end": 180}),
        ("rectangle", (400, 740, 600, 790), {}),
    )),
    Kind("Vase", "Home / Vases", 32, (
        ("ellipse", (300, 400, 700, 840), {}),
        ("polygon", ((430, 180), (570, 180), (545, 480), (455, 480)), {}),
        ("ellipse", (410, 150, 590, 215), {}),
    )),
    Kind("Cushion", "Home / Textiles", 28, (
        ("polygon", ((190, 190), (500, 235), (810, 190), (770, 500), (810, 810), (500, 765), (190, 810),
                     (230, 500)), {}),
    )),
    Kind("Lamp", "Home / Lamps", 65, (
        ("polygon", ((370, 160), (630, 160), (760, 500), (240, 500)), {}),
        ("rectangle", (480, 500, 520, 800), {}),
        ("ellipse", (360, 770, 640, 850), {}),
    )),
    Kind("Tote Bag", "Accessories / Bags", 24, (
        ("arc", (370, 130, 630, 560), {"start": 180, "end": 360, "width": 30}),
        ("polygon", ((250, 350), (750, 350), (790, 840), (210, 840)), {}),
    )),
    Kind("T-Shirt", "Accessories / Clothing", 22, (
        ("polygon", ((360, 190), (640, 190), (880, 340), (790, 490), (700, 440), (700, 830), (300, 830), (300, 440),
                     (210, 490), (120, 340)), {}),
        ("hole ellipse", (410, 130, 590, 260), {}),
    )),
    Kind("Rug", "Home / Textiles", 89, (
        ("rounded_rectangle", (130, 280, 870, 740), {"radius": 20}),
    )),
)  # fmt: skip


def drawn_folder(folder: Path, say: Callable[[str], None]) -> Path:
    """The drawn catalogue as a folder below `folder`, drawn if it is not there yet: 48 products, 96 pictures.

    Raises SourceError when the folder cannot be written.
    """
    place = folder / EDITION
    if (place / FILE_NAME).is_file():
        return place
    say(_("Drawing a catalogue of 48 products"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix="draw-", dir=folder))
        try:
            (scratch / "images").mkdir()
            with (scratch / FILE_NAME).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("sku", "name", "category", "price", "description", "images"))
                writer.writerows(_products(scratch))
            if place.exists():
                shutil.rmtree(place)
            scratch.rename(place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise SourceError(_("%(folder)s cannot be written: %(error)s.") % {"folder": folder, "error": error}) from error
    return place


def _products(folder: Path) -> Iterable[tuple]:
    names = list(COLOURS)
    for row, kind in enumerate(tqdm(KINDS, desc=_("Drawing products"), unit="", disable=None)):
        for column, pattern in enumerate(PATTERNS):
            colour = names[(row + column) % len(names)]
            sku = f"DRAWN-{row + 1}{column + 1}"
            seed = row * len(PATTERNS) + column
            images = []
            for view, size in (("front", 1.0), ("small", 0.72)):
                path = f"images/{sku.lower()}-{view}.jpg"
                draw_product(kind, COLOURS[colour], pattern, seed, size).save(folder / path, quality=88)
                images.append(path)
            description = (
                f"{pattern} {kind.name.lower()} in {colour.lower()}. The pictures of this product are drawn by code."
            )
            price = kind.price + 3 * column
            yield sku, f"{pattern} {kind.name} {colour}", kind.category, price, description, "|".join(images)


def draw_product(kind: Kind, colour: tuple[int, int, int], pattern: str, seed: int, scale: float = 1.0) -> Image.Image:
    """One RGB picture of SHOWN x SHOWN pixels; the same arguments draw the same picture."""
    ground = GROUNDS[seed % len(GROUNDS)]
    mask = _mask(kind)
    piece = _texture(pattern, colour)
    piece = ImageChops.multiply(piece, _shading(mask))
    if scale != 1.0:
        side = round(SIZE * scale)
        corner = (SIZE - side) // 2
        smaller = Image.new("L", mask.size)
        smaller.paste(mask.resize((side, side)), (corner, corner))
        shrunk = Image.new("RGB", piece.size)
        shrunk.paste(piece.resize((side, side)), (corner, corner))
        mask, piece = smaller, shrunk
    picture = _backdrop(ground)
    shadow = _blurred(ImageChops.offset(mask, SIZE // 50, SIZE // 28), SIZE / 40)
    dark = Image.new("RGB", picture.size, tuple(channel * 7 // 10 for channel in ground))
    picture = Image.composite(dark, picture, shadow.point(lambda value: value * 7 // 10))
    picture.paste(piece, mask=mask)
    return picture.resize((SHOWN, SHOWN), Image.Resampling.LANCZOS, reducing_gap=2)


def _mask(kind: Kind) -> Image.Image:
    mask = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(mask)
    for method, coordinates, arguments in kind.parts:
        flat = [tuple(v * SIZE // 1000 for v in c) if isinstance(c, tuple) else c * SIZE // 1000 for c in coordinates]
        arguments = {
            key: value * SIZE // 1000 if key in ("radius", "width") else value for key, value in arguments.items()
        }
        fill = 0 if method.startswith("hole ") else 255
        getattr(draw, method.removeprefix("hole "))(flat, fill=fill, **arguments)
    return mask


def _texture(pattern: str, colour: tuple[int, int, int]) -> Image.Image:
    light = tuple(channel + (250 - channel) * 7 // 10 for channel in colour)
    texture = Image.new("RGB", (SIZE, SIZE), colour)
    draw = ImageDraw.Draw(texture)
    step = SIZE // 15
    if pattern == "Striped":
        for x in range(0, SIZE, step):
            draw.rectangle((x, 0, x + step // 2, SIZE), fill=light)
    elif pattern == "Dotted":
        for row, y in enumerate(range(0, SIZE, step)):
            for x in range(-(row % 2) * step // 2, SIZE, step):
                draw.ellipse((x, y, x + step // 2, y + step // 2), fill=light)
    elif pattern == "Checked":
        for row, y in enumerate(range(0, SIZE, step)):
            for x in range((row % 2) * step, SIZE, 2 * step):
                draw.rectangle((x, y, x + step - 1, y + step - 1), fill=light)
    elif pattern == "Zigzag":
        for y in range(-step, SIZE + step, step):
            points = [
                (x, y + (step // 2 if index % 2 else 0)) for index, x in enumerate(range(0, SIZE + step, step // 2))
            ]
            draw.line(points, fill=light, width=step // 4, joint="curve")
    elif pattern == "Banded":
        draw.rectangle((0, SIZE * 45 // 100, SIZE, SIZE * 60 // 100), fill=light)
    return texture


def _blurred(mask: Image.Image, radius: float) -> Image.Image:
    """A wide blur, made at a quarter of the size because that is all it shows."""
    return mask.reduce(4).filter(ImageFilter.GaussianBlur(radius / 4)).resize(mask.size, Image.Resampling.BICUBIC)


def _shading(mask: Image.Image) -> Image.Image:
    """Darker towards the right and at the rim, as if lit from the left."""
    across = Image.linear_gradient("L").rotate(90).resize((SIZE, SIZE)).point(lambda value: 255 - value * 70 // 255)
    rim = _blurred(mask, SIZE / 30).point(lambda value: 205 + value * 50 // 255)
    shade = ImageChops.multiply(across, rim)
    return Image.merge("RGB", (shade, shade, shade))


def _backdrop(ground: tuple[int, int, int]) -> Image.Image:
    down = Image.linear_gradient("L").resize((SIZE, SIZE)).point(lambda value: 255 - value * 18 // 255)
    return ImageChops.multiply(Image.new("RGB", (SIZE, SIZE), ground), Image.merge("RGB", (down, down, down)))
