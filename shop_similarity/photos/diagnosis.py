"""What to say of bytes that could not be decoded."""

from __future__ import annotations

import re

from django.utils.translation import gettext_lazy as _

from .errors import ImageError, ImageTypeNotAllowed, ImageUnreadable


def unidentified(data: bytes, allowed: tuple[str, ...]) -> ImageError:
    """Why Pillow takes the bytes for none of the formats in ``allowed``."""
    kind = kind_of(data)
    if kind in allowed:
        return ImageUnreadable(
            _(
                "The header of the %(format)s file is damaged or of a variant that cannot be read; "
                "save the photo anew as JPEG or PNG and upload it again."
            ),
            format=kind,
        )
    if kind:
        return ImageTypeNotAllowed(
            _("This is a file of type %(found)s; upload the photo as %(allowed)s."),
            found=kind,
            allowed=", ".join(allowed),
        )
    return ImageTypeNotAllowed(
        _("This is not an image of a known type; upload the photo as %(allowed)s."), allowed=", ".join(allowed)
    )


def undecodable(data: bytes, error: Exception) -> ImageUnreadable:
    """Why a decoder failed with ``error`` on bytes of an allowed format."""
    kind = kind_of(data) or "?"
    if "truncated" in str(error) or _lacks_its_end(data, kind):
        return ImageUnreadable(
            _("The %(format)s file is cut off after %(bytes)s bytes; upload the photo again."),
            format=kind,
            bytes=f"{len(data):,}",
        )
    return ImageUnreadable(
        _(
            "The %(format)s file is damaged or of a variant that cannot be read (%(reason)s); "
            "save the photo anew as JPEG or PNG and upload it again."
        ),
        format=kind,
        reason=" ".join(str(error).split())[:200] or type(error).__name__,
    )


_SIGNATURES = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG"),
    ("GIF", rb"GIF8[79]a"),
    ("WEBP", rb"RIFF....WEBP"),
    ("TIFF", rb"II[*+]\0|MM\0[*+]"),
    ("AVIF", rb"....ftyp(?:avif|avis)"),
    ("HEIC", rb"....ftyp(?:he[ivx]|mif1|msf1)"),
    ("JPEG2000", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP"),
    ("PDF", rb"%PDF"),
    ("EPS", rb"%!PS|\xc5\xd0\xd3\xc6"),
    ("PSD", rb"8BPS"),
    ("ICO", rb"\0\0[\x01\x02]\0"),
    ("ZIP", rb"PK\x03\x04"),
    ("SVG", rb"(?i:(?:\xef\xbb\xbf)?\s*<svg|(?:\xef\xbb\xbf)?\s*<\?xml.{,1000}<svg)"),
    ("HTML", rb"(?i:(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html))"),
    ("BMP", rb"BM"),
)


def kind_of(data: bytes) -> str | None:
    """What the first bytes look like, for the sentence only; Pillow decides what is decoded."""
    return next((name for name, magic in _SIGNATURES if re.match(magic, data[:2048], re.DOTALL)), None)


def _lacks_its_end(data: bytes, kind: str) -> bool:
    match kind:
        case "JPEG":
            return not data.rstrip(b"\0").endswith(b"\xff\xd9")
        case "PNG":
            return b"IEND" not in data[-64:]
        case "GIF":
            return not data.rstrip(b"\0").endswith(b";")
        case "WEBP":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case _:
            return False
