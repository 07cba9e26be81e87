"""What lists say of a rule in words: when it holds, and how much it does."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from ..models import MerchandisingRule


def is_in_force(rule: MerchandisingRule) -> bool:
    """Whether a loaded rule counts now, as ``MerchandisingRule.objects.in_force()`` says it of rows."""
    now = timezone.now()
    return (
        rule.is_on
        and (rule.starts_at is None or rule.starts_at <= now)
        and (rule.ends_at is None or rule.ends_at > now)
    )


def when(rule: MerchandisingRule) -> str:
    """Whether it is in force, and else why not."""
    if not rule.is_on:
        return _("switched off")
    if rule.ends_at is not None and rule.ends_at <= timezone.now():
        return _("ended %(date)s") % {"date": _date(rule.ends_at)}
    if not is_in_force(rule):
        return _("coming %(date)s") % {"date": _date(rule.starts_at)}
    if rule.ends_at is not None:
        return _("in force until %(date)s") % {"date": _date(rule.ends_at)}
    return _("in force")


def how_much(rule: MerchandisingRule) -> str:
    """The position of a pin or the weight of a boost; empty where there is none."""
    if rule.kind == MerchandisingRule.Kind.PIN:
        return _("position %(position)d") % {"position": rule.position} if rule.position else ""
    return f"{rule.boost:+}".replace(".", number_format("0.1", 1)[1]) if rule.boost is not None else ""


def _date(moment: datetime) -> str:
    return date_format(timezone.localtime(moment), "SHORT_DATETIME_FORMAT")
