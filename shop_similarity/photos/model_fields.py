"""The model field for photos of the shop."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.fields.files import ImageFieldFile

from .dimensions import upright_size
from .form_fields import PhotoField as PhotoFormField
from .limits import catalogue_limits
from .validators import validate_photo


class PhotoFieldFile(ImageFieldFile):
    """Its ``width`` and ``height`` are None where the file is no photo within the limits, and never cost a decode."""

    def _get_image_dimensions(self) -> tuple[int | None, int | None]:
        if not hasattr(self, "_dimensions_cache"):
            self._dimensions_cache = upright_size(self, catalogue_limits()) or (None, None)
        return self._dimensions_cache


class PhotoField(models.ImageField):
    """``models.ImageField`` whose forms and ``full_clean()`` refuse what the plugin would not decode.

    Its ``width_field`` and ``height_field`` are read once, when a new file is assigned. Django's own field opens the
    file of every loaded row that has no size, and a row whose file is gone or damaged then breaks each query that meets
    it. Here a size that cannot be read is NULL and stays NULL. The size is that of the upright photo: an EXIF quarter
    turn swaps the sides.
    """

    attr_class = PhotoFieldFile
    width_field: str | None
    height_field: str | None
    default_validators = [validate_photo]

    def update_dimension_fields(self, instance: models.Model, force: bool = False, *args: Any, **kwargs: Any) -> None:
        if not (self.width_field or self.height_field) or self.attname not in instance.__dict__:
            return
        file = getattr(instance, self.attname)
        if not force and (not file or file._committed):
            return
        size = file._get_image_dimensions() if file else (None, None)
        for name, side in zip((self.width_field, self.height_field), size, strict=True):
            if name:
                setattr(instance, name, side)

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": PhotoFormField, **kwargs})
