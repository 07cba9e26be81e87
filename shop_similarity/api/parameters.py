"""What the searches of the API take."""

from __future__ import annotations

import difflib
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from ..search.aspects import ASPECTS
from ..search.options import (
    CATEGORY,
    MOST_CATEGORIES,
    MOST_OFFSET,
    PRICE_MAX,
    PRICE_MIN,
    Filters,
    SearchOptions,
)
from .fields import BooleanField, CropField, IntegerField, KeyField, NumberField, PhotoField, TextField, choice_schema
from .problems import Unprocessable

MAX_LIMIT = 100
MAX_OFFSET = MOST_OFFSET
MAX_BASKET = 20
MOST_ATTRIBUTES = 10
_MAX_PRICE = 10**12


class Parameters(serializers.Serializer):
    """Parameters of an address or fields of a form: unknown ones and repeated single values are mistakes."""

    @classmethod
    def read(cls, given: QueryDict | dict) -> dict[str, Any]:
        """The values by name.

        Raises:
            ValidationError: with every mistake by the name of its parameter.
        """
        fields = cls().fields
        wrong: dict[str, list[str]] = {}
        values: dict[str, Any] = {}
        # REST framework gives a plain dictionary for an empty body.
        for name, several in given.lists() if isinstance(given, QueryDict) else ():
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                hint = _("Did you mean %(name)s?") if near else _("Known are: %(name)s.")
                shown = {"name": near[0] if near else ", ".join(fields)}
                wrong[name] = [serializers.ErrorDetail(_("Unknown parameter.") + " " + hint % shown, "unknown")]
            elif isinstance(fields[name], serializers.ListField):
                values[name] = several
            elif len(several) > 1:
                wrong[name] = [serializers.ErrorDetail(str(_("Give this once only.")), "repeated")]
            else:
                values[name] = several[0]
        parameters = cls(data={name: value for name, value in values.items() if name not in wrong})
        if not parameters.is_valid() or wrong:
            raise serializers.ValidationError({**parameters.errors, **wrong})
        return parameters.validated_data


class PageParameters(Parameters):
    limit = IntegerField(
        min_value=1, max_value=MAX_LIMIT, default=8, help_text=_("How many products come in one answer.")
    )
    offset = IntegerField(
        min_value=0, max_value=MAX_OFFSET, default=0, help_text=_("How many products are passed over before.")
    )


@extend_schema_field(choice_schema(ASPECTS), component_name="SimilarityAspect")
class AspectField(serializers.ChoiceField):
    """What results lean towards."""


class SearchParameters(PageParameters):
    """What every search takes."""

    category = serializers.ListField(
        child=TextField(),
        required=False,
        max_length=MOST_CATEGORIES,
        help_text=CATEGORY.help,
    )
    price_min = NumberField(min_value=0, max_value=_MAX_PRICE, required=False, help_text=PRICE_MIN.help)
    price_max = NumberField(min_value=0, max_value=_MAX_PRICE, required=False, help_text=PRICE_MAX.help)
    lean = AspectField(
        choices=ASPECTS,
        required=False,
        help_text=_("Prefer products that are alike in this. 422 where the model version can't tell it apart."),
    )
    diversity = NumberField(
        min_value=0,
        max_value=1,
        required=False,
        help_text=_(
            "How much likeness to products that stand higher in the list counts against a product; 0 ranks by "
            "similarity alone. By default what the shop has set."
        ),
    )
    min_similarity = NumberField(
        min_value=-1,
        max_value=1,
        required=False,
        help_text=_(
            "Leave out products that are less similar than this, except pinned ones. By default what the shop has set "
            "for products that look like products, and no bound for those that look like a photo."
        ),
    )
    collapse = BooleanField(
        default=True, help_text=_("Whether only one of near-identical products and variants of a product is given.")
    )
    explain = BooleanField(default=False, help_text=_("Whether each result says what makes it similar."))
    sold_out = BooleanField(default=False, help_text=_("Whether products that can't be had now are given too."))


class ProductParameters(SearchParameters):
    """What a search by products takes beside that."""

    same = serializers.ListField(
        child=TextField(max_length=30),
        required=False,
        max_length=MOST_ATTRIBUTES,
        help_text=_("Only products that share this with what is asked with, by a name of the `ATTRIBUTES` setting."),
    )
    other = serializers.ListField(
        child=TextField(max_length=30),
        required=False,
        max_length=MOST_ATTRIBUTES,
        help_text=_(
            "Only products that differ in this from what is asked with, by a name of the `ATTRIBUTES` setting."
        ),
    )


class SimilarParameters(ProductParameters):
    """What a search by one product takes."""

    alternatives = BooleanField(
        default=False, help_text=_("Give products only where the one that is asked with is sold out.")
    )


class BasketParameters(ProductParameters):
    product = serializers.ListField(
        child=KeyField(),
        min_length=1,
        max_length=MAX_BASKET,
        help_text=_("Key of a product, once for each product of the basket."),
    )


@extend_schema_serializer(component_name="SimilarToImageForm")
class ImageForm(SearchParameters):
    """The form of a search by photo."""

    image = PhotoField(
        allow_empty_file=True, help_text=_("The photo: JPEG, PNG, WebP, GIF or AVIF, unless the shop has set others.")
    )
    crop = CropField(
        required=False,
        help_text=_(
            "The part of the photo to search with, as left,top,right,bottom in parts of 1 of the upright photo."
        ),
    )


def search_options(values: dict[str, Any]) -> SearchOptions:
    """The options of a search.

    Raises:
        Unprocessable: values that are right by themselves do not go together.
    """
    diversity, min_similarity = values.get("diversity"), values.get("min_similarity")
    try:
        return SearchOptions(
            limit=values["limit"],
            offset=values["offset"],
            filters=Filters.of(values),
            lean=values.get("lean"),
            diversity=None if diversity is None else float(diversity),
            min_similarity=None if min_similarity is None else float(min_similarity),
            collapse=values["collapse"],
            explain=values["explain"],
            sold_out=values["sold_out"],
            same=values.get("same", ()),
            other=values.get("other", ()),
        )
    except ValueError as error:
        raise Unprocessable(str(error)) from error
