"""Wagtail's renditions as the widget's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects
from wagtail.images.models import SourceImageIOError

from ...photos.thumbnails import files_beside

_Copies = list[tuple[str, int | None, int | None]]


def renditions(file: Any, widths: Sequence[int]) -> _Copies:
    """Address, width and height of renditions of an image: what the ``THUMBNAILS`` setting names.

    They show the whole picture, as WebP, no higher than twice their width. Those of all cards of a page are read by one
    statement.

    Args:
        file: the file of an image of Wagtail's library; any other is shown as it is.
        widths: in pixels.
    """
    image = file.instance
    if not hasattr(image, "get_renditions"):
        return [(file.url, None, None)]
    specs = [f"max-{width}x{2 * width}|format-webp" for width in widths]
    images = [other.instance for other in files_beside(file) if type(other.instance) is type(image)]
    known = image.get_rendition_model().objects.filter(filter_spec__in=specs)
    prefetch_related_objects(images, Prefetch("renditions", known, to_attr="prefetched_renditions"))
    try:
        return [(copy.url, copy.width, copy.height) for copy in image.get_renditions(*specs).values()]
    except SourceImageIOError:
        # There is no such file, and no page shows a broken picture.
        return []
