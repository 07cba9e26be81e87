"""What a shopper sends: a photo with the region to search with, then filters."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from ..search.aspects import LABELS, LEAN_LABEL
from ..search.options import CATEGORY, PRICE_MAX, PRICE_MIN, Filters, SearchOptions
from .preparing import Crop

EDGES = ("left", "top", "right", "bottom")
PAGE_SIZE = 24
MOST_PAGES = 20
EVERYTHING = ""


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

    def crop(self) -> Crop | None:
        """The region as parts of 1, None for the whole photo; its edges are checked later, with the photo."""
        given = [self.cleaned_data.get(name) for name in EDGES]
        edges = [default if value is None else value / 100 for value, default in zip(given, (0, 0, 1, 1), strict=True)]
        return None if edges == [0, 0, 1, 1] else tuple(edges)

    def sentence(self) -> str:
        """All that is wrong, in one line."""
        sentences = []
        for name, messages in self.errors.items():
            label = "" if name in ("photo", "__all__") else f"{self.fields[name].label}: "
            sentences += [f"{label}{message}" for message in messages]
        return " ".join(sentences)


class FiltersForm(forms.Form):
    """Filters, lean and page as parameters of the address of the results. Fields that the shop has no use for are gone.

    Args:
        data: the parameters.
        categories: value and label of the categories that may be chosen.
        leanings: whether the model version can tell aspects apart.
    """

    category = CATEGORY.form_field()
    price_min = PRICE_MIN.form_field()
    price_max = PRICE_MAX.form_field()
    lean = forms.ChoiceField(label=LEAN_LABEL, required=False)
    page = forms.IntegerField(min_value=1, max_value=MOST_PAGES, required=False)

    def __init__(self, data: Any, *, categories: list[tuple[str, str]], leanings: bool) -> None:
        super().__init__(data, label_suffix="")
        if categories:
            self.fields["category"].choices = [("", _("All categories")), *categories]
        else:
            del self.fields["category"]
        if not PRICE_MIN.path:
            del self.fields["price_min"], self.fields["price_max"]
        if leanings:
            names = [(name, str(label).capitalize()) for name, label in LABELS.items()]
            self.fields["lean"].choices = [(EVERYTHING, _("Everything")), *names]
        else:
            del self.fields["lean"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        low, high = cleaned.get("price_min"), cleaned.get("price_max")
        if low is not None and high is not None and low > high:
            self.add_error("price_max", _("The highest price is below the lowest; swap them or leave one out."))
        return cleaned

    def options(self) -> SearchOptions:
        """What is searched for; a filter that is wrong is left out, its sentence stands beside the field."""
        cleaned = self.cleaned_data if self.is_bound and hasattr(self, "cleaned_data") else {}
        return SearchOptions(
            limit=PAGE_SIZE,
            offset=(self.page_number - 1) * PAGE_SIZE,
            filters=Filters.of(cleaned),
            lean=cleaned.get("lean") or None,
        )

    @property
    def page_number(self) -> int:
        """From 1."""
        return self.cleaned_data.get("page") or 1

    @property
    def is_filtered(self) -> bool:
        """Whether something was chosen that may leave products out."""
        return bool(self.options().filters)

    def address(self, **changes: Any) -> str:
        """The query string of these choices with some of them changed."""
        values = {name: self.cleaned_data.get(name) for name in self.fields} | changes
        parameters = [
            (name, format(value, "f") if isinstance(value, Decimal) else value)
            for name, value in values.items()
            if value not in (None, "") and not (name == "page" and value == 1)
        ]
        return urlencode(parameters)
