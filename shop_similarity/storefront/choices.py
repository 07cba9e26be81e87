"""What the shopper has chosen in a widget: its leaning and its filters, as parameters of an address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from ..search.aspects import ASPECTS, LABELS
from .options import WidgetOptions

# Of their own names, for they stand in the address of a shop's page beside what the shop means by its parameters.
LEAN, CATEGORY, PRICE_MAX = "similar_lean", "similar_category", "similar_price_max"
NAMES = (LEAN, CATEGORY, PRICE_MAX)
# The choice that undoes what the template leans to.
NO_LEANING = "all"


class ChoicesForm(forms.Form):
    """Checks the parameters; the fields are those of the form that shoppers see."""

    similar_lean = forms.ChoiceField(
        label=_("More like this in"), choices=[(NO_LEANING, _("everything")), *LABELS.items()], required=False
    )
    similar_category = forms.ChoiceField(
        label=_("Same category only"), choices=[("same", _("same category"))], required=False
    )
    similar_price_max = forms.DecimalField(
        label=_("Price up to"), min_value=0, max_digits=15, decimal_places=2, required=False
    )


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

    def parameters(self, **changes: Any) -> dict[str, str]:
        """As parameters of an address, with some of the choices changed."""
        values = {"lean": self.lean, "same_category": self.same_category, "price_max": self.price_max, **changes}
        parameters = {}
        if values["lean"]:
            parameters[LEAN] = values["lean"]
        if values["same_category"]:
            parameters[CATEGORY] = "same"
        if values["price_max"] is not None:
            parameters[PRICE_MAX] = format(values["price_max"].normalize(), "f")
        return parameters


def choices_of(parameters: Mapping[str, str], options: WidgetOptions) -> tuple[Choices, dict[str, str]]:
    """What the parameters of an address choose, as far as the widget offers it.

    Returns:
        The choices, without those that are none, and a sentence for each parameter that is wrong.
    """
    form = ChoicesForm({name: parameters[name] for name in NAMES if name in parameters})
    errors = {name: " ".join(messages) for name, messages in form.errors.items()}
    valid = form.cleaned_data
    lean = valid.get(LEAN) if options.lean else None
    return (
        Choices(
            lean if lean in (*ASPECTS, NO_LEANING) else None,
            options.filters and valid.get(CATEGORY) == "same",
            valid.get(PRICE_MAX) if options.filters else None,
        ),
        errors,
    )
