"""Reading an upload no further than a photo may be long."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http import HttpRequest

_FLAG = "_shop_similarity_upload_too_large"


class _Quota(FileUploadHandler):
    """Stops Django's own handlers, which would put a file of any size on the disk."""

    def __init__(self, request: HttpRequest, max_bytes: int) -> None:
        super().__init__(request)
        self.left = max_bytes

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        self.left -= len(raw_data)
        if self.left < 0:
            setattr(self.request, _FLAG, True)
            # The rest is read and thrown away: browsers show no answer to an upload that is cut off.
            raise StopUpload(connection_reset=False)
        return raw_data

    def file_complete(self, file_size: int) -> Any:
        return None


def limit_upload(request: HttpRequest, max_bytes: int) -> None:
    """Have files of this request, all together, end at ``max_bytes``; to be called before ``request.POST`` is read."""
    # A middleware may have read the body already; then its size is checked like that of any other file.
    with suppress(AttributeError):
        request.upload_handlers.insert(0, _Quota(request, max_bytes))


def was_too_large(request: HttpRequest) -> bool:
    """Whether an upload was ended by :func:`limit_upload`."""
    return hasattr(request, _FLAG)
