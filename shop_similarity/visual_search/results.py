"""What a photo is answered with: products, narrowed by the shopper's filters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from django import forms
from django.db import models
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from ..catalogue import NotAKeyError, product_key
from ..models import ModelVersion, VisualQuery
from ..search import search_by_vector
from ..search.aspects import LABELS, LEAN_LABEL
from ..search.options import CATEGORY, PRICE_MAX, PRICE_MIN, Filters, SearchOptions
from .queue import wait

PAGE_SIZE = 24
MOST_PAGES = 20
EVERYTHING = ""


def results(query: VisualQuery, options: SearchOptions | None = None) -> list[models.Model]:
    """Products that look like the photo of a query, most similar first.

    They are found by the model version that embedded the photo, also after another one has become active, as long as
    the shop's photos are embedded for it. After that nothing can be compared any more, and the photo is not there to be
    embedded anew.

    Args:
        query: an answered query.
        options: filters, lean, paging; see :class:`shop_similarity.search.options.SearchOptions`.

    Returns:
        Product instances as :func:`shop_similarity.search.similar_products` returns them.

    Raises:
        Busy: the query is not answered yet.
        Expired: the photo could not be embedded, the query is gone or its version is out of use.
    """
    return products(wait(query, 0), options)


def products(query: VisualQuery, options: SearchOptions | None = None) -> list[models.Model]:
    """What :func:`results` gives, for a query that was waited for just now."""
    assert query.vector is not None
    return products_like(query.vector, query.version, options, _left_out(query))


def products_like(
    vector: Sequence[float] | np.ndarray,
    version: ModelVersion,
    options: SearchOptions | None = None,
    exclude: Collection[Any] = (),
) -> list[models.Model]:
    """Products that look like a photo, by the vector that a worker answers it with.

    A version whose embeddings tell a product from its look is asked with a vector whose length says by how much its
    cosines are less than similarities, so that a photo is as similar to itself as by any other version.
    """
    # Half precision leaves the length of one that asks as it is stored a little off 1.
    scale = round(float(np.linalg.norm(np.asarray(vector, np.float32))), 3)
    return search_by_vector(vector, exclude=exclude, version=version, options=options, scale=scale)


def _left_out(query: VisualQuery) -> list[Any]:
    """Somebody who looks at a product looks for others."""
    try:
        return [product_key(query.product)] if query.product else []
    except NotAKeyError:
        return []


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
    page = forms.IntegerField(min_value=1, max_value=MOST_PAGES, required=False, widget=forms.HiddenInput)
    of = forms.UUIDField(required=False, widget=forms.HiddenInput)
    part = forms.IntegerField(min_value=0, max_value=99, required=False, widget=forms.HiddenInput)

    def __init__(self, data: Any, *, categories: list[tuple[str, str]], leanings: bool) -> None:
        super().__init__(data, label_suffix="")
        if categories:
            self._choices_of("category", [("", _("All categories")), *categories])
        else:
            del self.fields["category"]
        if not PRICE_MIN.is_offered:
            del self.fields["price_min"], self.fields["price_max"]
        if leanings:
            names = [(name, str(label).capitalize()) for name, label in LABELS.items()]
            self._choices_of("lean", [(EVERYTHING, _("Everything")), *names])
        else:
            del self.fields["lean"]

    def _choices_of(self, name: str, choices: list[tuple[str, Any]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def clean(self) -> dict[str, Any]:
        super().clean()
        cleaned = self.cleaned_data
        low, high = cleaned.get("price_min"), cleaned.get("price_max")
        if low is not None and high is not None and low > high:
            self.add_error("price_max", _("The highest price is below the lowest; swap them or leave one out."))
        return cleaned

    def options(self) -> SearchOptions:
        """What is searched for; a filter that is wrong is left out, its sentence stands beside the field."""
        return SearchOptions(
            limit=PAGE_SIZE,
            offset=(self.page_number - 1) * PAGE_SIZE,
            filters=Filters.of(self.cleaned_data),
            lean=self.cleaned_data.get("lean") or None,
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
