"""The mark of a stored file: its size and time of change, enough to notice a file replaced under the same name."""

from __future__ import annotations

from django.core.files.storage import Storage


def file_mark(storage: Storage, name: str) -> str:
    """Size in bytes and time of change of a file, as "size:time"; the parts a storage can't tell are empty.

    Raises:
        Exception: whatever the storage raises; :mod:`.storage_faults` tells what that means for the photo.
    """
    try:
        size = str(storage.size(name))
    except NotImplementedError:
        size = ""
    try:
        changed = f"{storage.get_modified_time(name).timestamp():.6f}"
    except NotImplementedError:
        changed = ""
    return f"{size}:{changed}"
