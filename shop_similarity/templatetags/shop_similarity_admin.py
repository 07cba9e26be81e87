"""How the plugin's admin pages write numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

register = template.Library()

_INDEX_STATES = {
    "absent": gettext_lazy("none"),
    "building": gettext_lazy("being built"),
    "invalid": gettext_lazy("cut off"),
    "ready": gettext_lazy("ready"),
}


@register.filter
def percent(share: float, digits: int = 1) -> str:
    """A share of 1 as a percentage without its sign: ``0.5`` is ``50.0``; only all of it is 100."""
    value = round(100 * share, digits)
    if share < 1 and value >= 100:
        value = 100 - 10**-digits
    return number_format(value, digits)


@register.filter
def interval(ends: Sequence[float]) -> str:
    """Both ends of an interval of shares, in percent."""
    return _("%(low)s to %(high)s %%") % {"low": percent(ends[0]), "high": percent(ends[1])}


@register.filter
def grouped(number: Any) -> str:
    """A whole number with the language's separators of thousands."""
    return number_format(number, 0, use_l10n=True, force_grouping=True)


@register.filter
def index_label(state: str) -> str:
    """The state of an index in words."""
    return str(_INDEX_STATES[state])
