"""Small copies of product photos for ``srcset``, by whichever library the shop has.

The ``THUMBNAILS`` setting names the shop's own callable; without it django-imagekit makes the copies where it is
installed, and else the photo itself is shown. Copies are made when they are first shown, below the limits of
:mod:`shop_similarity.photos.decoding`, so that a hostile file costs no more here than in a worker.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.apps import apps
from django.core.cache import cache
from django.core.files.images import get_image_dimensions
from django.core.files.storage import FileSystemStorage
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from .. import database
from ..catalogue import get_catalogue
from ..conf import get_settings
from ..models import Embedding, ModelVersion, OutboxEntry
from .decoding import ImageError, ImageMissing, open_image
from .file_marks import file_mark
from .limits import catalogue_limits
from .model_fields import PhotoField
from .storage_faults import final_sentence

logger = logging.getLogger(__name__)

WIDTHS = (240, 480)
"""Widths in pixels of a card's copies: for plain and for dense screens."""

# So long the names and sizes of copies are believed, and then kept to see whether the photo is still the same.
_KNOWN_SECONDS = 3_600
_KEPT_SECONDS = 30 * 86_400
# So long the lack of a readable photo is remembered, and the trouble of a storage.
_UNREADABLE_SECONDS = 300
_TROUBLE_SECONDS = 60
_REQUESTS_AT_A_TIME = 8


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
    copies = list(copies)
    if not copies:
        return None
    by_width = {width: (url, width, height) for url, width, height in copies if width is not None}
    unknown = [url for url, width, _height in copies if width is None]
    if unknown:
        return Sources(unknown[-1])
    ordered = [by_width[width] for width in sorted(by_width)]
    _url, width, height = ordered[-1]
    srcset = ", ".join(f"{url} {width}w" for url, width, _height in ordered) if len(ordered) > 1 else ""
    return Sources(ordered[0][0], srcset, width, height)


def _known_size(file: Any) -> tuple[int | None, int | None]:
    """The size that the shop keeps beside the photo; opening every photo for it would cost more than it is worth."""
    field = getattr(file, "field", None)
    names: Any = getattr(field, "width_field", None), getattr(field, "height_field", None)
    if not all(names):
        return None, None
    width, height = (getattr(file.instance, name, None) for name in names)
    return (width, height) if width and height else (None, None)


def shown_together(files: Iterable[Any]) -> None:
    """Say that photos are on one page, so that what a remote storage is asked for them is asked at once.

    It asks nothing yet: ``sources`` does, for all of them, when a template wants the first.

    Args:
        files: field files of photos, or None.
    """
    present = [file for file in files if file]
    group = _Group(present)
    for file in present:
        setattr(file, _GROUP, group)


def files_beside(file: Any) -> list[Any]:
    """The files that :func:`shown_together` names together with this one, itself among them.

    For callables of the ``THUMBNAILS`` setting that can ask for the copies of a whole page at once.
    """
    group = getattr(file, _GROUP, None)
    return [file] if group is None else list(group.files)


_GROUP = "_shop_similarity_group"
Copies = list[tuple[str, int | None, int | None]]


class _Group:
    """Photos of one page, and what is known of their copies by now."""

    def __init__(self, files: Sequence[Any]) -> None:
        self.files = files
        self.known: dict[tuple[int, ...], list[_Known | None]] = {}

    def copies(self, file: Any, widths: tuple[int, ...]) -> Copies | None:
        if widths not in self.known:
            self.known[widths] = _look_up(self.files, widths)
        pairs = zip(self.files, self.known[widths], strict=True)
        known = next(known for other, known in pairs if other is file)
        return known.copies if known else None


class _Known(NamedTuple):
    """What is remembered of a photo.

    Attributes:
        changed: the mark of its file.
        due: when that is looked for again, in seconds since 1970.
        copies: name, width and height of each; empty for an unreadable photo, None where the storage did not answer.
    """

    changed: str
    due: float
    copies: Copies | None


def _look_up(files: Sequence[Any], widths: tuple[int, ...]) -> list[_Known | None]:
    keys = [_key(file, widths) for file in files]
    # Plain values: other processes may run another version of this module.
    found = {key: _Known(*values) for key, values in cache.get_many(keys).items()}
    now = time.time()
    due = {key: file for key, file in zip(keys, files, strict=True) if key not in found or found[key].due < now}
    marks = _embedded_marks(due)
    for key, mark in marks.items():
        if key in found and found[key].copies and found[key].changed == mark:
            found[key] = found[key]._replace(due=now + _KNOWN_SECONDS)
            cache.set(key, tuple(found[key]), _KEPT_SECONDS)
            del due[key]
    questions = [(file, widths, found.get(key), marks.get(key)) for key, file in due.items()]
    if len(due) > 1 and not all(isinstance(file.storage, FileSystemStorage) for file in due.values()):
        answers = list(_threads().map(_asked_in_a_thread, questions))
    else:
        answers = [_asked(*question) for question in questions]
    for key, known in zip(due, answers, strict=True):
        if known is None:
            found.pop(key, None)
        else:
            found[key] = known
            cache.set(key, tuple(known), _KEPT_SECONDS)
    return [found.get(key) for key in keys]


def _embedded_marks(files: Mapping[str, Any]) -> dict[str, str]:
    """Marks of the files as workers have last seen them, where nothing says that they have changed since.

    Two statements in place of a question to the storage for each; none for files of a local folder.
    """
    model = get_catalogue().image_model
    asked = {
        key: file
        for key, file in files.items()
        if isinstance(file.instance, model) and not isinstance(file.storage, FileSystemStorage)
    }
    # Without sweeps nobody compares them with the storage.
    if not asked or not get_settings().sweep_files_seconds:
        return {}
    of_these = {
        "version__state": ModelVersion.State.ACTIVE,
        "image_id__in": [file.instance.pk for file in asked.values()],
    }
    rows = Embedding.objects.filter(**of_these).exclude(file_mark="")
    marks = {(image_id, name): mark for image_id, name, mark in rows.values_list("image_id", "file_name", "file_mark")}
    if marks:
        waiting = set(OutboxEntry.objects.filter(**of_these).values_list("image_id", flat=True))
        marks = {place: mark for place, mark in marks.items() if place[0] not in waiting}
    places = {key: (file.instance.pk, file.name) for key, file in asked.items()}
    return {key: marks[place] for key, place in places.items() if place in marks}


def _key(file: Any, widths: tuple[int, ...]) -> str:
    identity = repr((file.storage.__class__.__qualname__, file.name, file.instance.pk, widths))
    return f"shop_similarity:copies:{hashlib.sha256(identity.encode()).hexdigest()}"


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Kept, for a storage makes a connection for each thread, which takes a processor longer than some requests."""
    return ThreadPoolExecutor(_REQUESTS_AT_A_TIME, "shop-similarity-thumbnails")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)


def _asked_in_a_thread(question: tuple[Any, tuple[int, ...], _Known | None, str | None]) -> _Known | None:
    try:
        return _asked(*question)
    finally:
        # A storage or a cache may be a table.
        database.close_connections()


def _asked(file: Any, widths: tuple[int, ...], known: _Known | None, mark: str | None) -> _Known | None:
    """What the storage says; None while another process makes the copies."""
    photo, now = _Photo(file, widths[-1], mark), time.time()
    try:
        old = known.copies if known is not None and known.changed == photo.changed else None
        copies = old or _make(photo, widths)
        return None if copies is None else _Known(photo.changed, now + _KNOWN_SECONDS, copies)
    except ImageError as error:
        logger.warning("The photo %s can't be shown: %s", file.name, error)
        return _Known("", now + _UNREADABLE_SECONDS, [])
    # A storage, another's library for one, may fail in any way; a heavier photo is better than no page.
    except Exception:
        logger.exception("No thumbnail of the photo %s could be made; the last ones or the photo are shown.", file.name)
        return _Known(known.changed if known else "", now + _TROUBLE_SECONDS, known.copies if known else None)


def _of_imagekit(file: Any, widths: tuple[int, ...]) -> Sources | None:
    group = getattr(file, _GROUP, None) or _Group([file])
    copies = group.copies(file, widths)
    if copies is None:
        # Somebody else is just making them, or the storage is in trouble.
        return Sources(file.url, "", *_known_size(file))
    storage = _storage()
    # Names are remembered and not URLs, which a storage may sign for a short time only.
    return _of_copies([(storage.url(name), width, height) for name, width, height in copies])


def _make(photo: _Photo, widths: tuple[int, ...]) -> Copies | None:
    """Name, width and height of every copy; None while another process makes them.

    The largest is made last, so where it lies, the others do.
    """
    from imagekit.cachefiles import ImageCacheFile

    specs = [_spec_class()(photo, width) for width in widths]
    files = [ImageCacheFile(spec) for spec in specs]
    largest = files[-1]
    if largest.storage.exists(largest.name):
        size = _upright_size(photo.file) or _size_of(largest)
        sizes: list[tuple[int | None, int | None]] = [_fitted(size, width) for width in widths]
    else:
        largest.cachefile_backend.forget(largest)
        for file in files:
            # What lies in a folder costs nothing to ask, and is never written over.
            file.is_missing = not isinstance(file.storage, FileSystemStorage)
        for spec, file in zip(specs, files, strict=True):
            file.generate()
            if spec.size is None and not file.storage.exists(file.name):
                return None
        sizes = [spec.size or _size_of(file) for spec, file in zip(specs, files, strict=True)]
    return [(file.name, *size) for file, size in zip(files, sizes, strict=True)]


def _upright_size(file: Any) -> tuple[int, int] | None:
    """The size that the shop keeps beside the photo, if it is that of the upright one."""
    width, height = _known_size(file) if isinstance(getattr(file, "field", None), PhotoField) else (None, None)
    return (width, height) if width and height else None


def _size_of(copy: Any) -> tuple[int | None, int | None]:
    with copy.storage.open(copy.name) as handle:
        return get_image_dimensions(handle)


def _fitted(size: tuple[Any, Any], width: int) -> tuple[int, int]:
    """Size of the copy of a photo: at most so wide and twice as high, never enlarged."""
    scale = min(1, width / size[0], 2 * width / size[1])
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def thumbnail_storages() -> list[Any]:
    """Where copies lie, if this module makes them."""
    return [_storage()] if get_settings().thumbnails is None and apps.is_installed("imagekit") else []


def _storage() -> Any:
    from imagekit.utils import get_storage

    return get_storage()


class _Photo:
    """A photo that is decoded once for all of its copies, and only if one of them is missing.

    Django's ``cached_property``, because before Python 3.12 that of functools lets one thread at a time through.
    """

    def __init__(self, file: Any, largest: int, mark: str | None) -> None:
        self.file = file
        self.largest = largest
        self.mark = mark

    @cached_property
    def image(self) -> Any:
        return open_image(self.file, catalogue_limits(), target_size=self.largest)

    @cached_property
    def changed(self) -> str:
        """The mark of its file: the name alone does not tell a photo from the one that took its place."""
        if self.mark is not None:
            return self.mark
        storage, name = self.file.storage, self.file.name
        try:
            return file_mark(storage, name)
        except Exception as error:
            if sentence := final_sentence(error, name):
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

        def _exists(self, file: Any) -> bool:
            return not getattr(file, "is_missing", False) and super()._exists(file)

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
            # Of the copy, once it is made.
            self.size: tuple[int, int] | None = None
            super().__init__(photo.file)

        def get_hash(self) -> str:
            return hashers.pickle(
                [self.source.name, str(self.source.instance.pk), self.photo.changed, self.width, self.options]
            )

        def generate(self) -> Any:
            (fit,) = self.processors
            copy = fit.process(self.photo.image)
            content = process_image(copy, format=self.format, options=self.options)
            self.size = copy.size
            return content

    return Thumbnail
