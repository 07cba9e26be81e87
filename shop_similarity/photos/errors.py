"""What can be wrong with a photo: for good, so that no retry makes sense, or with the machine that decodes it."""

from __future__ import annotations

import functools
from typing import Any


class ImageError(Exception):
    """A photo that cannot be used, now or later; ``str()`` is a translated sentence that says what to do."""

    def __init__(self, message: Any, **params: Any) -> None:
        super().__init__(message, params)
        self.message = message
        self.params = params

    def __str__(self) -> str:
        return str(self.message) % self.params

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), self.message, **self.params), ()


class ImageMissing(ImageError):
    """The storage has no such file."""


class ImageTooLarge(ImageError):
    """More bytes, pixels or decoding passes than the limits allow."""


class ImageTypeNotAllowed(ImageError):
    """The bytes are no image, or one of a format that is not allowed."""


class ImageUnreadable(ImageError):
    """An allowed format, but empty, cut off, damaged or of a variant that Pillow cannot decode."""


class DecoderUnavailable(OSError):
    """No process could decode the photo now; the photo itself may be right, and another try makes sense."""
