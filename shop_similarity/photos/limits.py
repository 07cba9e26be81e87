"""What a photo may be: bytes, pixels and formats."""

from __future__ import annotations

from dataclasses import dataclass

from ..conf import get_settings

WEB_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
"""What browsers show; the right choice for uploads by the public."""

CATALOGUE_FORMATS = (*WEB_FORMATS, "BMP", "TIFF")
"""What shop staff upload: also the originals of photographers and scanners."""

FORBIDDEN_FORMATS = frozenset({"EPS", "PDF", "SVG", "WMF", "EMF"})
"""Formats that are programs or need one (Ghostscript, the Windows metafile renderer)."""


@dataclass(frozen=True)
class ImageLimits:
    """What :func:`~shop_similarity.photos.decoding.open_image` accepts.

    Args:
        max_bytes: size of the encoded file.
        max_pixels: width x height. Pillow's own ceiling, twice ``PIL.Image.MAX_IMAGE_PIXELS``, holds besides.
        formats: Pillow's names. JPEG includes MPO, the several-pictures-in-one JPEG of phones.
        max_seconds: processor time of decoding, in a process of its own; 0: without bound, in the process that asks.
        max_memory: bytes that decoding may take in that process; None: in proportion to ``max_bytes`` and
            ``max_pixels``, enough for two copies of all pixels at 8 bytes each.

    Raises:
        ValueError: a limit below 1, no format, or one of ``FORBIDDEN_FORMATS``.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    formats: tuple[str, ...] = CATALOGUE_FORMATS
    max_seconds: float = 10
    max_memory: int | None = None

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_pixels < 1:
            raise ValueError("max_bytes and max_pixels must be 1 or more.")
        if self.max_seconds < 0:
            raise ValueError("max_seconds must be 0 or more.")
        if isinstance(self.formats, str):
            raise ValueError('formats must be a tuple of names such as ("JPEG", "PNG"), not one string.')
        formats = tuple(dict.fromkeys("JPEG" if name.upper() == "MPO" else name.upper() for name in self.formats))
        if not formats:
            raise ValueError('formats must name at least one format, for example "JPEG".')
        if forbidden := sorted(FORBIDDEN_FORMATS.intersection(formats)):
            raise ValueError(f"{', '.join(forbidden)} cannot be allowed: files of this kind are programs.")
        object.__setattr__(self, "formats", formats)

    @property
    def memory_bound(self) -> int:
        """Bytes that decoding may take."""
        return self.max_memory or 64 * 2**20 + 4 * self.max_bytes + 16 * self.max_pixels


DEFAULT_LIMITS = ImageLimits()


def catalogue_limits() -> ImageLimits:
    """Of the shop's own photos: the settings ``MAX_IMAGE_BYTES``, ``MAX_IMAGE_PIXELS``, ``IMAGE_FORMATS`` and so on."""
    settings = get_settings()
    return ImageLimits(
        settings.max_image_bytes, settings.max_image_pixels, settings.image_formats, settings.decode_seconds
    )


def upload_limits() -> ImageLimits:
    """Of a photo that a shopper searches with: the ``VISUAL_SEARCH_`` settings."""
    settings = get_settings()
    return ImageLimits(
        settings.visual_search_max_bytes,
        settings.visual_search_max_pixels,
        settings.visual_search_formats,
        settings.decode_seconds,
    )
