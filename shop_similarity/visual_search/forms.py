"""The form that a shopper sends a photo with, on its own page and on any other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from django import forms
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from PIL import Image

from ..conf import get_settings
from .uploads import WHOLE, Crop

EDGES = ("left", "top", "right", "bottom")
_NAMES = {"WEBP": "WebP"}


class PhotoForm(forms.Form):
    """The photo, and the edges of the region in per cent of it; an edge that is left out is that of the photo."""

    photo = forms.FileField(
        label=_("Photo"),
        allow_empty_file=True,
        error_messages={
            "required": _("Choose a photo to search with."),
            "invalid": _("The photo did not arrive; please choose it again."),
            "missing": _("Choose a photo to search with."),
        },
    )
    left = forms.FloatField(label=_("Left edge"), required=False)
    top = forms.FloatField(label=_("Top edge"), required=False)
    right = forms.FloatField(label=_("Right edge"), required=False)
    bottom = forms.FloatField(label=_("Bottom edge"), required=False)
    whole = forms.BooleanField(label=_("Search with the whole photo"), required=False)
    keep = forms.BooleanField(required=False)

    def crop(self) -> Crop | None:
        """The region as parts of 1, None where nobody chose; its edges are checked later, with the photo."""
        if self.cleaned_data.get("whole"):
            return WHOLE
        given = [self.cleaned_data.get(name) for name in EDGES]
        left, top, right, bottom = (
            default if value is None else value / 100 for value, default in zip(given, (0, 0, 1, 1), strict=True)
        )
        crop = (left, top, right, bottom)
        return None if crop == (0, 0, 1, 1) else crop

    def sentence(self) -> str:
        """All that is wrong, in one line."""
        sentences = []
        for name, messages in self.errors.items():
            label = "" if name in ("photo", "__all__") else f"{self.fields[name].label}: "
            sentences += [f"{label}{message}" for message in messages]
        return " ".join(sentences)


def _media_types(formats: Iterable[str]) -> list[str]:
    Image.init()
    return [Image.MIME[name] for name in formats if name in Image.MIME]


def form_context(
    *,
    error: str = "",
    element_id: str = "visual-search",
    heading: str | None = None,
    heading_level: int = 2,
    is_page: bool = False,
) -> dict[str, Any]:
    """Context of ``shop_similarity/_visual_search_form.html``.

    Args:
        error: sentence about what was sent before.
        element_id: prefix of all ids in the form; another one for each form of a page.
        heading: text above the form; None for none.
        heading_level: 1 to 6.
        is_page: whether the page is about nothing else, so that pasting anywhere means the form and the address may
            follow the results.

    Raises:
        ValueError: the heading's level is none.
        NoReverseMatch: the shop does not include ``shop_similarity.urls``.
    """
    if not 1 <= heading_level <= 6:
        raise ValueError(f"heading_level is {heading_level}; HTML has 1 to 6.")
    settings = get_settings()
    fields = PhotoForm.base_fields
    edges = zip(EDGES, (0, 0, 100, 100), strict=True)
    return {
        "visual_search": {
            "action": reverse("shop_similarity:visual-search"),
            "error": error,
            "id": element_id,
            "heading": heading,
            "heading_level": heading_level,
            "is_page": is_page,
            "edges": [{"name": name, "label": fields[name].label, "value": value} for name, value in edges],
            "finds_objects": settings.visual_search_objects,
            "minutes": math.ceil(settings.visual_search_keep_seconds / 60),
            "max_bytes": settings.visual_search_max_bytes,
            "max_size": filesizeformat(settings.visual_search_max_bytes),
            "types": " ".join(_media_types(settings.visual_search_formats)),
            "formats": ", ".join(_NAMES.get(name, name) for name in settings.visual_search_formats),
        }
    }
