"""Small copies of the product photos, made when they are first shown and kept beside the media files.

Photos are never sent to a list at full size. The copies are upright, RGB on white, WebP, and carry no EXIF.
"""

import logging
from dataclasses import dataclass

from imagekit import ImageSpec
from imagekit.cachefiles import ImageCacheFile
from imagekit.cachefiles.backends import CacheFileState, Simple
from PIL import Image, ImageOps

from catalog.models import ProductPhoto

logger = logging.getLogger(__name__)

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Shrink:
    """Image processor: turn upright, flatten on white, fit into width x height pixels; never enlarge."""

    def __init__(self, width: int, height: int):
        self.width = width
        self.height = height

    def process(self, image: Image.Image) -> Image.Image:
        image.draft("RGB", (self.width * 2, self.height * 2))  # lets the JPEG decoder skip most of a large photo
        icc_profile = image.info.get("icc_profile") if image.mode == "RGB" else None
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
        image.thumbnail((self.width, self.height), Image.Resampling.LANCZOS)
        image.info = {"icc_profile": icc_profile} if icc_profile else {}
        return image


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
    width: int
    height: int

    def __init__(self, source):
        self.processors = [Shrink(self.width, self.height)]
        super().__init__(source)


class Small(_Thumbnail):
    """The row of small pictures below a gallery, the basket, the admin."""

    width = height = 160


class Card(_Thumbnail):
    """A product in a grid."""

    width = height = 600


class Large(_Thumbnail):
    """The photo on a product page."""

    width = height = 1280


SPECS: dict[str, type[_Thumbnail]] = {"small": Small, "card": Card, "large": Large}


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Where a small copy is and its size in pixels (None where the size of the photo is unknown)."""

    url: str
    width: int | None
    height: int | None


def thumbnail(photo: ProductPhoto, size: str) -> Thumbnail | None:
    """The copy of `photo` in one of the sizes of SPECS, made now if it is missing; None if the photo is unreadable."""
    spec = SPECS[size](source=photo.file)
    try:
        url = ImageCacheFile(spec).url
    except UNREADABLE as error:
        logger.warning("Photo %s of product %s cannot be shown: %s", photo.pk, photo.product_id, error)
        return None
    return Thumbnail(url, *_fitted(photo.width, photo.height, spec.width, spec.height))


def _fitted(width: int | None, height: int | None, most_wide: int, most_high: int) -> tuple[int | None, int | None]:
    if not width or not height:
        return None, None
    scale = min(most_wide / width, most_high / height, 1)
    return max(round(width * scale), 1), max(round(height * scale), 1)
