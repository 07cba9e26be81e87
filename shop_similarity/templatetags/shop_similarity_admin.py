"""How the plugin's admin pages write numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.template import Context
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.timesince import timesince
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
    """A whole number with the language's separators of thousands; an estimate says so."""
    if getattr(number, "is_about", False):
        return f"{_('about')} {grouped(number.rounded)}"
    return number_format(number, 0, use_l10n=True, force_grouping=True)


@register.filter
def ago(moment: datetime) -> str:
    """How long ago something was, in words."""
    if timezone.now() - moment < timedelta(minutes=1):
        return _("just now")
    return _("%(since)s ago") % {"since": timesince(moment)}


@register.filter
def index_label(state: str) -> str:
    """The state of an index in words."""
    return str(_INDEX_STATES[state])


@register.simple_tag(takes_context=True)
def may_view_products(context: Context) -> bool:
    """Whether the user of this page may see the shop's products in the admin."""
    # Shops without Django's admin load this library as well.
    from ..admin.access import may_view_products as may_view

    return may_view(context["request"])
