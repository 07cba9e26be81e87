"""Callables that settings name in tests."""

from django.db.models import Avg, Case, F, Min, Sum, Value, When
from django.db.models.functions import Coalesce


def lowest_price():
    return Min("stockrecords__price")


def any_price():
    return Coalesce("stockrecords__price", "children__stockrecords__price")


def mean_price():
    return Avg("stockrecords__price", default=None)


def group():
    return Coalesce("group", "parent__group")


def shown_node():
    return Case(When(nodes__depth__gt=0, then=F("nodes")))


def can_be_had():
    return Case(When(stockrecords__num_in_stock__gt=0, then=True), default=Value(False))


def all_stock():
    return Sum("stockrecords__num_in_stock")


def a_text():
    return "price"


def nowhere():
    return F("nowhere")
