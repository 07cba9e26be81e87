"""The form field for photos that somebody uploads to the shop."""

from __future__ import annotations

from typing import Any

from django import forms

from .validators import validate_photo


class PhotoField(forms.ImageField):
    """``forms.ImageField`` that lets nothing but :func:`~shop_similarity.photos.validators.validate_photo` open a file.

    Django's own field opens whatever Pillow has a plugin for, EPS included, and sees neither a cut off file nor the
    pixels that it will cost. ``cleaned_data`` holds the ``UploadedFile`` with its real ``content_type``, without the
    attribute ``image``.
    """

    default_validators = [validate_photo]

    def to_python(self, data: Any) -> Any:
        return forms.FileField.to_python(self, data)
