"""Small copies of the product photos, made when they are first shown and kept beside the media files.

Photos are never sent to a list at full size. The copies are upright, sRGB on white, WebP, and carry no EXIF.
Photos are decoded by the similar-products plugin alone, within its limits: what cannot be embedded is not shown.
"""

import logging
from dataclasses import dataclass

import numpy as np
from django.core.cache import cache
from django.db.models.fields.files import FieldFile
from imagekit import ImageSpec, hashers, register
from imagekit.cachefiles import ImageCacheFile
from imagekit.cachefiles.backends import CacheFileState, Simple
from PIL import Image, ImageFilter, ImageOps, ImageStat
from pilkit.utils import process_image

from catalog.models import ProductPhoto
from shop_similarity.photos.decoding import open_image
from shop_similarity.photos.limits import catalogue_limits

logger = logging.getLogger(__name__)

# How much the edge of a photo on a plain ground may vary, in levels of 0..255.
UNEVEN = 4
# Longest side in pixels of the sketch in which contours are sought, and the share of them that outweighs the middle.
SKETCH = 96
PULL_TO_MIDDLE = 0.08

# So long a photo that could not be shown is not tried again.
UNREADABLE_SECONDS = 60


class Shrink:
    """Image processor: fitted into width x height pixels; never enlarged."""

    def __init__(self, width: int, height: int):
        self.width = width
        self.height = height

    def process(self, image: Image.Image) -> Image.Image:
        image.thumbnail((self.width, self.height), Image.Resampling.LANCZOS)
        return image


class Square:
    """Image processor: a square of at most `side` pixels, so that grids are even.

    A product on a plain ground keeps all of itself: the ground is carried on to the square's edge. Any other photo
    loses the ends that show least.
    """

    def __init__(self, side: int):
        self.side = side

    def process(self, image: Image.Image) -> Image.Image:
        side = min(self.side, max(image.size))
        ground = plain_ground(image)
        if ground is None:
            return ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS, centering=busiest_square(image))
        return ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, color=ground)


def busiest_square(image: Image.Image) -> tuple[float, float]:
    """Which square of an image holds the most contours, as ImageOps.fit wants it: 0 left or top, 1 right or bottom.

    A photo's subject is seldom blurred and its ground seldom sharp. The middle wins when the difference is small.
    """
    sketch = ImageOps.contain(image.convert("L"), (SKETCH, SKETCH), Image.Resampling.BOX)
    contours = np.asarray(sketch.filter(ImageFilter.FIND_EDGES), dtype=np.float64)[1:-1, 1:-1]
    wide = image.width > image.height
    along = contours.sum(axis=0 if wide else 1)
    side, room = min(contours.shape), max(contours.shape) - min(contours.shape)
    if room < 1:
        return 0.5, 0.5
    share = np.convolve(along, np.ones(side), "valid") / max(along.sum(), 1)
    place = np.linspace(0, 1, room + 1)
    best = float(place[np.argmax(share - PULL_TO_MIDDLE * (2 * place - 1) ** 2)])
    return (best, 0.5) if wide else (0.5, best)


def plain_ground(image: Image.Image) -> tuple[int, int, int] | None:
    """The RGB colour of the two edges beside which a square needs more ground; None if they are not plain and alike."""
    width, height = image.size
    if width <= height:
        edges = (0, 0, 1, height), (width - 1, 0, width, height)
    else:
        edges = (0, 0, width, 1), (0, height - 1, width, height)
    statistics = [ImageStat.Stat(image.crop(edge)) for edge in edges]
    if any(deviation > UNEVEN for edge in statistics for deviation in edge.stddev):
        return None
    one, other = (edge.median for edge in statistics)
    if any(abs(a - b) > UNEVEN for a, b in zip(one, other, strict=True)):
        return None
    return tuple((a + b) // 2 for a, b in zip(one, other, strict=True))


class RetryingBackend(Simple):
    """imagekit's own backend leaves a file whose making failed marked as "being made" for ever."""

    def generate_now(self, file, force=False):
        try:
            super().generate_now(file, force=force)
        except Exception:
            self.set_state(file, CacheFileState.DOES_NOT_EXIST)
            raise


class _Thumbnail(ImageSpec):
    format = "WEBP"
    options = {"quality": 82, "method": 4}
    cachefile_backend = RetryingBackend()
    side: int
    square: bool

    def __init__(self, source):
        self.processors = [Square(self.side) if self.square else Shrink(self.side, self.side)]
        super().__init__(source)

    def get_hash(self) -> str:
        # A storage gives the name of a deleted file to the next one: the name alone does not tell photos apart.
        return hashers.pickle([super().get_hash(), self.source.instance.pk])

    def generate(self):
        # imagekit opens whatever Pillow has a plugin for, at any size.
        image = open_image(self.source, catalogue_limits(), target_size=self.side)
        return process_image(image, processors=self.processors, format=self.format, options=self.options)


class Small(_Thumbnail):
    """The row of small pictures below a gallery, the basket, the admin."""

    side, square = 160, True


class Tile(_Thumbnail):
    """A product in a grid on a small or plain screen."""

    side, square = 300, True


class Card(_Thumbnail):
    """A product in a grid."""

    side, square = 600, True


class Medium(_Thumbnail):
    """The photo on a product page on a telephone."""

    side, square = 720, False


class Large(_Thumbnail):
    """The photo on a product page."""

    side, square = 1280, False


SPECS: dict[str, type[_Thumbnail]] = {"small": Small, "tile": Tile, "card": Card, "medium": Medium, "large": Large}
for _name, _spec in SPECS.items():
    register.generator(f"catalog:{_name}", _spec)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Where a small copy is and its size in pixels (None where the size of the photo is unknown)."""

    url: str
    width: int | None
    height: int | None


def thumbnail(photo: ProductPhoto, size: str) -> Thumbnail | None:
    """The copy of `photo` in one of the sizes of SPECS, made now if it is missing; None if it cannot be made."""
    unreadable = f"catalog:unreadable:{photo.pk}:{hashers.pickle(photo.file.name)}"
    if cache.get(unreadable):
        return None
    spec = SPECS[size]
    try:
        url = ImageCacheFile(spec(source=photo.file)).url
    # The storage and every decoder may fail in ways of their own, and one photo must not cost the page.
    except Exception as error:
        logger.warning("Photo %s of product %s cannot be shown: %s", photo.pk, photo.product_id, error or repr(error))
        cache.set(unreadable, True, UNREADABLE_SECONDS)
        return None
    if not photo.width or not photo.height:
        return Thumbnail(url, None, None)
    if spec.square:
        side = min(spec.side, max(photo.width, photo.height))
        return Thumbnail(url, side, side)
    scale = min(spec.side / photo.width, spec.side / photo.height, 1)
    return Thumbnail(url, max(round(photo.width * scale), 1), max(round(photo.height * scale), 1))


def square_copies(file: FieldFile, widths: tuple[int, ...]) -> list[tuple[str, int | None, int | None]]:
    """The copies that grids show, for the similar-products plugin; the widths are the shop's own."""
    copies = [copy for size in ("tile", "card") if (copy := thumbnail(file.instance, size))]
    return [(copy.url, copy.width, copy.height) for copy in copies]


def forget(photo: ProductPhoto) -> None:
    """Delete the small copies of a photo."""
    for spec in SPECS.values():
        copy = ImageCacheFile(spec(source=photo.file))
        copy.cachefile_backend.set_state(copy, CacheFileState.DOES_NOT_EXIST)
        copy.storage.delete(copy.name)
