"""Width and height of a photo as it is shown, read from the head of its file."""

from __future__ import annotations

from PIL import Image

from .contents import Source, read_bytes
from .limits import ImageLimits
from .opened import opened
from .pixels import transposition
from .structure import has_too_many_parts


def upright_size(source: Source, limits: ImageLimits) -> tuple[int, int] | None:
    """Width and height in pixels after the EXIF orientation; None where there is no photo within the limits.

    No pixel is decoded, so the rest of the file may be damaged.

    Args:
        source: see :func:`~shop_similarity.photos.contents.read_bytes`.
        limits: what is accepted.
    """
    try:
        data = read_bytes(source, limits.max_bytes)
        if not data or has_too_many_parts(data):
            return None
        with opened(data, limits.formats) as (image, frame):
            width, height = frame.size if frame else image.size
            # Pillow states the size of a TIFF as it is after the turn.
            is_turned = transposition(image) in _QUARTER_TURNS
    # Whatever is wrong with the file or its storage, the page that asks for a size can do without.
    except Exception:
        return None
    if width * height > limits.max_pixels:
        return None
    return (height, width) if is_turned else (width, height)


_QUARTER_TURNS = {
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
}
