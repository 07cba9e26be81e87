"""What is asked of one widget, by the shop's template and by the shopper, and how that travels in addresses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any

from django import forms
from django.core.signing import BadSignature, Signer
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..search import aspects
from ..search import options as search

LAYOUTS = ("row", "grid")
MOST_PRODUCTS = 50
TEMPLATE = "shop_similarity/similar_products.html"

# Of their own names, for they stand in the address of a shop's page beside what the shop means by its parameters.
NAMES = LEAN, CATEGORY, PRICE_MAX = tuple(
    f"similar_{name}" for name in (aspects.LEAN, search.CATEGORY.name, search.PRICE_MAX.name)
)
# The choice that undoes what the template leans to.
NO_LEANING = "all"

_signer = Signer(salt="shop_similarity.widget")
_ID = re.compile(r"[A-Za-z][\w-]{0,99}\Z")


@dataclass(frozen=True)
class WidgetOptions:
    """How a widget looks and what it lets the shopper do.

    Attributes:
        limit: the most products shown, 1 to 50.
        layout: ``"grid"``, or ``"row"``: one line that scrolls sideways.
        heading: text above the products; None: "Similar products", translated.
        heading_level: 1 to 6; the level that fits the page's outline.
        template_name: template of the whole widget.
        element_id: id of the widget's element; None: one made of the product's key.
        lean: whether the shopper may ask for likeness in colour, pattern or shape. It is not offered where the model
            version can't tell them apart.
        lean_to: one of :data:`shop_similarity.search.aspects.ASPECTS`, which the list leans to until the shopper
            chooses.
        explain: whether each card says what makes its product similar.
        filters: whether the shopper may filter by category and price.
        same_category: whether only products of the product's own category are shown.
        price_min, price_max: bounds of the price.
        min_similarity: products below this cosine, -1 to 1, are not shown, except pinned ones; None: the setting.
        sold_out: whether products are shown too that the ``IN_STOCK`` setting says can't be had.
        same, other: names of the ``ATTRIBUTES`` setting, with commas or as a list: only products that share their value
            with the product, such as its brand, or that do not.
        alternatives: whether the widget is shown only where the product itself is sold out.

    Raises:
        ValueError: a value out of its range, with a sentence that says which.
    """

    limit: int = 8
    layout: str = "grid"
    heading: str | None = None
    heading_level: int = 2
    template_name: str = TEMPLATE
    element_id: str | None = None
    lean: bool = False
    lean_to: str | None = None
    explain: bool = False
    filters: bool = False
    same_category: bool = False
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    min_similarity: float | None = None
    sold_out: bool = False
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    alternatives: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (("limit", 1, MOST_PRODUCTS), ("heading_level", 1, 6)):
            value = _whole(name, getattr(self, name))
            if not low <= value <= high:
                raise ValueError(
                    gettext("%(name)s is %(value)s; it must lie in %(low)d to %(high)d.")
                    % {"name": name, "value": value, "low": low, "high": high}
                )
            object.__setattr__(self, name, value)
        _choose("layout", self.layout, LAYOUTS)
        if self.lean_to is not None:
            _choose("lean_to", self.lean_to, aspects.ASPECTS)
        if self.element_id is not None and not _ID.match(self.element_id):
            raise ValueError(
                gettext(
                    "element_id is %(value)r; it must be a letter and then letters, digits, hyphens or underscores."
                )
                % {"value": self.element_id[:40]}
            )
        for name in ("same", "other"):
            object.__setattr__(self, name, search.names_of_attributes(getattr(self, name)))
        if self.heading is not None:
            object.__setattr__(self, "heading", str(self.heading))
        for name in (search.PRICE_MIN.name, search.PRICE_MAX.name):
            object.__setattr__(self, name, search.price(getattr(self, name)))
        if self.min_similarity is not None:
            object.__setattr__(self, "min_similarity", _cosine("min_similarity", self.min_similarity))

    def signed(self) -> str:
        """What differs from the defaults as a signed text for an address; empty where nothing does.

        It is signed because it names a template and a heading, which are the shop's to choose and nobody else's. It
        holds no time, so the address of a widget stays the same and can be cached.
        """
        default = WidgetOptions()
        values = {
            name: str(value) if isinstance(value, Decimal) else value
            for name, value in asdict(self).items()
            if value != getattr(default, name)
        }
        return _signer.sign_object(values, compress=True) if values else ""

    @classmethod
    def of_signed(cls, text: str) -> WidgetOptions:
        """The options that :meth:`signed` made a text of.

        Raises:
            ValueError: the text was not made by this shop, or by another release of the plugin.
        """
        try:
            values: dict[str, Any] = _signer.unsign_object(text) if text else {}
        # The JSON or the compression may be broken too.
        except (BadSignature, ValueError) as error:
            raise ValueError(
                gettext("The options of the widget were changed on their way; load the page again.")
            ) from error
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


class ChoicesForm(forms.Form):
    """Checks the parameters; the fields are those of the form that shoppers see."""

    similar_lean = forms.ChoiceField(
        label=aspects.LEAN_LABEL, choices=[(NO_LEANING, _("everything")), *aspects.LABELS.items()], required=False
    )
    similar_category = forms.ChoiceField(
        label=_("Same category only"), choices=[("same", _("same category"))], required=False
    )
    similar_price_max = search.PRICE_MAX.form_field()


@dataclass(frozen=True)
class Choices:
    """The shopper's choices.

    Attributes:
        lean: one of :data:`shop_similarity.search.aspects.ASPECTS`, ``"all"`` for none, or None where nothing was
            chosen.
        same_category: whether only products of the product's own category are wanted.
        price_max: the highest price, or None.
    """

    lean: str | None = None
    same_category: bool = False
    price_max: Decimal | None = None

    @property
    def is_filter(self) -> bool:
        return self.same_category or self.price_max is not None

    def parameters(self) -> dict[str, str]:
        """As parameters of an address."""
        price = self.price_max if self.price_max is None else format(self.price_max.normalize(), "f")
        values = {LEAN: self.lean, CATEGORY: self.same_category and "same", PRICE_MAX: price}
        return {name: value for name, value in values.items() if value}


def choices_of(parameters: Mapping[str, str], options: WidgetOptions) -> tuple[Choices, dict[str, str]]:
    """What the parameters of an address choose, as far as the widget offers it.

    Returns:
        The choices, without those that are none, and a sentence for each parameter that is wrong.
    """
    form = ChoicesForm({name: parameters[name] for name in NAMES if name in parameters})
    errors = {name: " ".join(map(str, messages)) for name, messages in form.errors.items()}
    valid = form.cleaned_data
    lean = valid.get(LEAN) if options.lean else None
    return (
        Choices(
            lean or None,
            options.filters and valid.get(CATEGORY) == "same",
            valid.get(PRICE_MAX) if options.filters else None,
        ),
        errors,
    )


def _whole(name: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            gettext("%(name)s is %(value)r; it must be a whole number.") % {"name": name, "value": str(value)[:40]}
        ) from error


def _cosine(name: str, value: Any) -> float:
    try:
        cosine = float(value)
    except (TypeError, ValueError):
        cosine = math.nan
    if not -1 <= cosine <= 1:
        raise ValueError(
            gettext("%(name)s is %(value)r; it must be a number from -1 to 1.")
            % {"name": name, "value": str(value)[:40]}
        )
    return cosine


def _choose(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            gettext("%(name)s is %(value)r; choose one of %(choices)s.")
            % {"name": name, "value": str(value)[:40], "choices": ", ".join(choices)}
        )
