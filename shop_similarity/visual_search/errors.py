"""What can be in the way of a search by photo. ``str()`` of each is a translated sentence for the shopper."""

from __future__ import annotations

from typing import Any

from ..photos.decoding import ImageError


class CropError(ImageError):
    """The region lies outside the photo, is empty, or is no region at all."""


class Busy(Exception):
    """No worker has answered, or too many photos wait already.

    Attributes:
        retry_after: seconds after which it makes sense to try again, for the header of that name.
    """

    def __init__(self, message: Any, retry_after: int = 5) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.message)


class Expired(Exception):
    """The query can't be searched with any more: its photo was never embedded, or its model version is out of use."""

    def __init__(self, message: Any) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return str(self.message)
