"""The mark of a stored file: its size and time of change, enough to notice a file replaced under the same name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.files.storage import Storage


def file_mark(storage: Storage, name: str) -> str:
    """Size in bytes and time of change of a file, as "size:time"; the parts a storage can't tell are empty.

    Raises:
        Exception: whatever the storage raises; :mod:`.storage_faults` tells what that means for the photo.
    """
    told = _told_at_once(storage, name)
    if told is not None:
        size, changed = str(told[0]), told[1]
    else:
        size, changed = _asked(storage.size, name), _asked(storage.get_modified_time, name)
    return f"{size}:{f'{changed.timestamp():.6f}' if changed else ''}"


def _asked(question: Callable[[str], Any], name: str) -> Any:
    try:
        return question(name)
    except NotImplementedError:
        return ""


def _told_at_once(storage: Storage, name: str) -> tuple[int, datetime] | None:
    """Size and time by one request, where the storage is that of S3 in django-storages; else None.

    Its ``size`` and ``get_modified_time`` send the same request each, which opening a file sends once; its content is
    fetched when it is read.
    """
    if not hasattr(storage, "get_object_parameters"):
        return None
    with storage.open(name, "rb") as file:
        stored = getattr(file, "obj", None)
        size, changed = getattr(stored, "content_length", None), getattr(stored, "last_modified", None)
    if not isinstance(size, int) or not isinstance(changed, datetime):
        return None
    return size, changed
