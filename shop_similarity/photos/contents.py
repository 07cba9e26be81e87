"""The bytes of a photo, wherever they are kept: read no further than they may be long."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.core.files.base import File
from django.utils.translation import gettext_lazy as _

from .errors import ImageMissing, ImageTooLarge
from .limits import DEFAULT_LIMITS
from .storage_faults import final_sentence, is_missing

_CHUNK_BYTES = 2**20

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | File | IO[bytes]


def content_sha256(data: bytes) -> str:
    """SHA-256 of the encoded file as 64 hexadecimal digits: equal bytes are embedded once."""
    return hashlib.sha256(data).hexdigest()


def read_bytes(source: Source, max_bytes: int = DEFAULT_LIMITS.max_bytes) -> bytes:
    """All bytes of ``source``, at most ``max_bytes``.

    A ``FieldFile`` is read through a handle of its own, which is closed again, so neither the field's state nor other
    threads are touched. A file object that is open already stays open at the position it had; one that cannot seek is
    read from where it stands.

    Args:
        source: bytes, a path, a Django ``File`` or ``FieldFile``, or a binary file object.
        max_bytes: never read more than one byte beyond this.

    Raises:
        ImageMissing: the field is empty or the storage has no such file.
        ImageTooLarge: more than ``max_bytes``.
        OSError: the storage failed; worth a retry. Storages may raise exceptions of their own as well.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        if len(source) > max_bytes:
            raise _too_many_bytes(max_bytes)
        return bytes(source)
    with _reader(source) as handle:
        # Remote storages fetch the whole object at the first read: ask for its size before.
        if (_size(handle) or 0) > max_bytes:
            raise _too_many_bytes(max_bytes)
        chunks, remaining = [], max_bytes + 1
        while remaining and (chunk := handle.read(min(_CHUNK_BYTES, remaining))):
            if isinstance(chunk, str):
                raise TypeError("The photo was opened in text mode; open it in binary mode ('rb').")
            chunks.append(chunk)
            remaining -= len(chunk)
    if remaining <= 0:
        raise _too_many_bytes(max_bytes)
    return b"".join(chunks)


@contextmanager
def _reader(source: Any) -> Iterator[Any]:
    """A binary handle at the start of ``source``; closed afterwards if it was opened here, rewound otherwise."""
    try:
        if isinstance(source, str | os.PathLike):
            opened: Any = Path(source).open("rb")  # noqa: SIM115
        elif hasattr(source, "storage"):
            if not source:
                raise ImageMissing(_("The photo's record names no file; upload the photo again."))
            if not getattr(source, "_committed", True):
                with _reader(source.file) as handle:
                    yield handle
                return
            opened = source.storage.open(source.name, "rb")
        elif isinstance(source, File) and source.closed:
            opened = source.open("rb")
        else:
            opened = None
    except Exception as error:
        if final_sentence(error, ""):
            raise _missing(source) from error
        raise
    if opened is not None:
        try:
            yield opened
        # Object storages look for the file at the first read only.
        except Exception as error:
            if is_missing(error):
                raise _missing(source) from error
            raise
        finally:
            opened.close()
    elif _can_seek(source):
        position = source.tell()
        source.seek(0)
        try:
            yield source
        finally:
            source.seek(position)
    else:
        yield source


def _can_seek(handle: Any) -> bool:
    if callable(seekable := getattr(handle, "seekable", None)):
        return bool(seekable())
    return hasattr(handle, "seek") and hasattr(handle, "tell")


def _size(handle: Any) -> int | None:
    try:
        size = handle.size
    except (AttributeError, NotImplementedError, io.UnsupportedOperation):
        return None
    return size if isinstance(size, int) else None


def _too_many_bytes(max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(
        _("The file is larger than %(limit)s MiB; save the photo smaller and upload it again."),
        limit=f"{max_bytes / 2**20:,.3g}",
    )


def _missing(source: Any) -> ImageMissing:
    name = getattr(source, "name", None) or source
    return ImageMissing(_("The storage has no file “%(name)s”; upload the photo again."), name=str(name))
