"""The validator for photos that somebody uploads to the shop."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models.fields.files import FieldFile
from django.utils.translation import gettext_lazy as _
from PIL import Image

from .contents import read_bytes
from .decoding import open_image
from .diagnosis import kind_of
from .errors import ImageError, ImageMissing, ImageTooLarge, ImageTypeNotAllowed
from .limits import ImageLimits, catalogue_limits

# Small: the photo is decoded to see that it can be.
_SIDE = 224
_CODES = {ImageMissing: "missing", ImageTooLarge: "too_large", ImageTypeNotAllowed: "type_not_allowed"}
_CHECKED = "_shop_similarity_checked"


def validate_photo(file: Any) -> None:
    """Raise unless a file is a photo that the plugin decodes: for any ``FileField``, of a model or a form.

    It holds the settings ``MAX_IMAGE_BYTES``, ``MAX_IMAGE_PIXELS`` and ``IMAGE_FORMATS``, so that what is uploaded can
    also be embedded and shown. The name must end as files of these formats do, since servers choose by it what they say
    the file is; and ``content_type``, which a browser may claim at will and some storages believe, becomes what the
    bytes are. A file that is stored already is taken as it is, and one that was found good is not decoded twice.

    Args:
        file: an ``UploadedFile``, another Django ``File`` with a name, or a field's ``FieldFile``.

    Raises:
        ValidationError: ``code`` is ``extension_not_allowed``, ``missing``, ``too_large``, ``type_not_allowed`` or
            ``unreadable``.
        OSError: the file cannot be read; worth a retry.
    """
    if isinstance(file, FieldFile):
        if not file or file._committed:  # type: ignore[attr-defined]  # private, so the stubs leave it out
            return
        upload = file.file
    else:
        upload = file
    if getattr(upload, _CHECKED, False):
        return
    limits = catalogue_limits()
    try:
        data = read_bytes(upload, limits.max_bytes)
        open_image(data, limits, target_size=_SIDE)
    except ImageError as error:
        code = _CODES.get(type(error), "unreadable")
        raise ValidationError(error.message, code=code, params=error.params) from error
    extensions = _extensions(limits)
    if PurePath(file.name or "").suffix.lower() not in extensions:
        raise ValidationError(
            _("The name of the photo must end in one of %(extensions)s; rename the file and upload it again."),
            code="extension_not_allowed",
            params={"extensions": ", ".join(extensions)},
        )
    upload.content_type = Image.MIME.get(kind_of(data) or "")
    setattr(upload, _CHECKED, True)


def _extensions(limits: ImageLimits) -> list[str]:
    """How names of files of the allowed formats end, with the dot."""
    Image.init()
    formats = {*limits.formats, *(["MPO"] if "JPEG" in limits.formats else [])}
    return sorted(extension for extension, name in Image.EXTENSION.items() if name in formats)
