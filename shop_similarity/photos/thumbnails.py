"""Small copies of product photos for ``srcset``, by whichever library the shop has.

The ``THUMBNAILS`` setting names the shop's own callable; without it django-imagekit makes the copies where it is
installed, and else the photo itself is shown. Copies are made when they are first shown, below the limits of
:mod:`shop_similarity.photos.decoding`, so that a hostile file costs no more here than in a worker.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.cache import cache
from django.core.files.images import get_image_dimensions
from django.utils.module_loading import import_string

from ..conf import get_settings
from .decoding import ImageError, ImageMissing, open_image
from .limits import catalogue_limits
from .storage_faults import final_sentence

logger = logging.getLogger(__name__)

WIDTHS = (240, 480)
"""Widths in pixels of a card's copies: for plain and for dense screens."""

# So long the sizes of copies and the lack of a readable photo are remembered.
_KNOWN_SECONDS = 3_600
_UNREADABLE_SECONDS = 300


@dataclass(frozen=True)
class Sources:
    """What an ``<img>`` needs.

    Attributes:
        src: URL for browsers that know no ``srcset``.
        srcset: ``"url 240w, url 480w"``; empty where there is only one copy.
        width, height: pixels of the largest copy; None where the size is unknown.
    """

    src: str
    srcset: str = ""
    width: int | None = None
    height: int | None = None


def sources(file: Any, widths: Sequence[int] = WIDTHS) -> Sources | None:
    """The copies of a photo in the given widths; None where there is no photo or it can't be read.

    Args:
        file: field file of the photo, or None.
        widths: pixels, at least one. A photo is never enlarged, and a very tall copy is no higher than twice its width.
    """
    if not file:
        return None
    path = get_settings().thumbnails
    try:
        if path is not None:
            return _of_copies(import_string(path)(file, tuple(widths)))
        if apps.is_installed("imagekit"):
            return _of_imagekit(file, tuple(sorted(widths)))
        return Sources(file.url, "", *_known_size(file))
    # The storage, the cache or the shop's callable may fail in any way; a heavier photo is better than no page.
    except Exception:
        logger.exception("No thumbnail of the photo %s could be made; the photo itself is shown.", file.name)
        return _itself(file)


def _itself(file: Any) -> Sources | None:
    try:
        return Sources(file.url, "", *_known_size(file))
    except Exception:
        return None


def _of_copies(copies: Sequence[tuple[str, int | None, int | None]]) -> Sources | None:
    by_width = {width: (url, width, height) for url, width, height in copies}
    if not by_width:
        return None
    if None in by_width:
        return Sources(*by_width[None][:1])
    ordered = [by_width[width] for width in sorted(by_width)]
    _url, width, height = ordered[-1]
    srcset = ", ".join(f"{url} {width}w" for url, width, _height in ordered) if len(ordered) > 1 else ""
    return Sources(ordered[0][0], srcset, width, height)


def _known_size(file: Any) -> tuple[int | None, int | None]:
    """The size that the shop keeps beside the photo; opening every photo for it would cost more than it is worth."""
    field = getattr(file, "field", None)
    names = getattr(field, "width_field", None), getattr(field, "height_field", None)
    if not all(names):
        return None, None
    width, height = (getattr(file.instance, name, None) for name in names)
    return (width, height) if width and height else (None, None)


def _of_imagekit(file: Any, widths: tuple[int, ...]) -> Sources | None:
    identity = repr((file.storage.__class__.__qualname__, file.name, file.instance.pk, widths))
    key = f"shop_similarity:thumbnails:{hashlib.sha256(identity.encode()).hexdigest()}"
    copies = cache.get(key)
    if copies is None:
        copies = _make(file, widths)
        if copies is None:
            # Somebody else is just making them.
            return Sources(file.url, "", *_known_size(file))
        cache.set(key, copies, _KNOWN_SECONDS if copies else _UNREADABLE_SECONDS)
    storage = _storage()
    # Names are remembered and not URLs, which a storage may sign for a short time only.
    return _of_copies([(storage.url(name), width, height) for name, width, height in copies])


def _make(file: Any, widths: tuple[int, ...]) -> list[tuple[str, int, int]] | None:
    """Name, width and height of every copy; empty for an unreadable photo, None while another process makes them."""
    from imagekit.cachefiles import ImageCacheFile

    photo = _Photo(file, widths[-1])
    copies = []
    for width in widths:
        try:
            copy = ImageCacheFile(_spec_class()(photo, width))
            copy.generate()
            with copy.storage.open(copy.name) as handle:
                size = get_image_dimensions(handle)
        except ImageError as error:
            logger.warning("The photo %s can't be shown: %s", file.name, error)
            return []
        except FileNotFoundError:
            copy.cachefile_backend.forget(copy)
            return None
        copies.append((copy.name, *size))
    return copies


def _storage() -> Any:
    from imagekit.utils import get_storage

    return get_storage()


class _Photo:
    """A photo that is decoded once for all of its copies, and only if one of them is missing."""

    def __init__(self, file: Any, largest: int) -> None:
        self.file = file
        self.largest = largest

    @functools.cached_property
    def image(self) -> Any:
        return open_image(self.file, catalogue_limits(), target_size=self.largest)

    @functools.cached_property
    def changed(self) -> str:
        """When the file was written: the name alone does not tell a photo from the one that took its place."""
        try:
            return self.file.storage.get_modified_time(self.file.name).isoformat()
        except NotImplementedError:
            return ""
        except Exception as error:
            if sentence := final_sentence(error, self.file.name):
                raise ImageMissing(sentence) from error
            raise


@functools.cache
def _spec_class() -> type:
    """Made late, for django-imagekit need not be installed."""
    from imagekit import ImageSpec, hashers
    from imagekit.cachefiles.backends import CacheFileState, Simple
    from imagekit.utils import get_cache
    from PIL import Image
    from pilkit.utils import process_image

    class Backend(Simple):
        """Simple, but a copy whose making failed or was cut off is made again."""

        making_seconds = 60

        def set_state(self, file: Any, state: str) -> None:
            if state == CacheFileState.GENERATING:
                get_cache().set(self.get_key(file), state, self.making_seconds)
            else:
                super().set_state(file, state)

        def generate_now(self, file: Any, force: bool = False) -> None:
            try:
                super().generate_now(file, force=force)
            except BaseException:
                self.forget(file)
                raise

        def forget(self, file: Any) -> None:
            get_cache().delete(self.get_key(file))

    class Fit:
        """Image processor: at most ``width`` wide and twice as high; never enlarged."""

        def __init__(self, width: int) -> None:
            self.width = width

        def process(self, image: Any) -> Any:
            copy = image.copy()
            copy.thumbnail((self.width, 2 * self.width), Image.Resampling.LANCZOS)
            return copy

    class Thumbnail(ImageSpec):
        format = "WEBP"
        options = {"quality": 82, "method": 4}
        cachefile_backend = Backend()

        def __init__(self, photo: _Photo, width: int) -> None:
            self.photo = photo
            self.processors = [Fit(width)]
            self.width = width
            super().__init__(photo.file)

        def get_hash(self) -> str:
            return hashers.pickle(
                [self.source.name, str(self.source.instance.pk), self.photo.changed, self.width, self.options]
            )

        def generate(self) -> Any:
            return process_image(self.photo.image, processors=self.processors, format=self.format, options=self.options)

    return Thumbnail
