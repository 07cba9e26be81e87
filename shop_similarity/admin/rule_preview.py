"""What a rule would change, before it is saved: the lists of some products before and after."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import database
from ..catalogue import get_catalogue
from ..catalogue.category_tree import CategoryTree
from ..catalogue.field_paths import setting_value
from ..models import MerchandisingRule, ModelVersion
from ..rollout.side_by_side import compare_lists, in_order, sample_products
from ..search import searched_version, similar_products
from .comparison import comparison_row
from .pages import render_page

BUTTON = "_preview"
_SHOWN = 8
_PRODUCTS = 3


class _Undone(Exception):
    pass


@contextmanager
def proposed(rule: MerchandisingRule) -> Iterator[None]:
    """Searches of this thread see the rule as it is here; nobody else does, and afterwards nothing is left of it.

    It is written within a transaction that is taken back, without signals, so that every search applies it as it will.
    A rule that is to begin later counts as if it had begun.
    """
    row = copy.copy(rule)
    if row.starts_at is not None and row.starts_at > timezone.now():
        row.starts_at = None
    try:
        with database.atomic():
            if row.pk is None:
                MerchandisingRule.objects.bulk_create([row])
            else:
                names = [field.attname for field in row._meta.concrete_fields if not field.primary_key]
                MerchandisingRule.objects.filter(pk=row.pk).update(**{name: getattr(row, name) for name in names})
            yield
            raise _Undone
    except _Undone:
        return


def page(request: HttpRequest, site: admin.AdminSite, rule: MerchandisingRule) -> HttpResponse:
    """The preview of a rule whose form was checked but not saved; its button saves what the form has."""
    version = searched_version()
    products = in_order(_keys(rule, version)) if version is not None else []
    before = [similar_products(product, _SHOWN, version=version) for product in products]
    with proposed(rule):
        after = [similar_products(product, _SHOWN, version=version) for product in products]
    comparisons = [compare_lists(*lists) for lists in zip(products, before, after, strict=True)]
    names = (_("now"), _("with the rule"))
    sent = [(name, value) for name, values in request.POST.lists() for value in values if name not in _NOT_SENT]
    return render_page(
        request,
        site,
        "rule_preview.html",
        _("Preview of the rule"),
        {
            "rule": rule,
            "sent": sent,
            "rows": [comparison_row(request, site, comparison, *names, is_change=True) for comparison in comparisons],
            "is_same": all(comparison.is_same for comparison in comparisons),
        },
    )


_NOT_SENT = {BUTTON, "csrfmiddlewaretoken"}


def _keys(rule: MerchandisingRule, version: ModelVersion) -> list[Any]:
    """Keys of products whose lists the rule may change, where it can be told which."""
    if rule.product_id is not None:
        return [rule.product_id]
    if rule.category and (category := setting_value("category")) is not None:
        values = category.parsed([rule.category])
        tree = CategoryTree.of(category)
        shown = category.select(get_catalogue().visible_products(), **{"in": tree.below(values) if tree else values})
        return list(shown.order_by("pk").values_list("pk", flat=True)[:_PRODUCTS])
    if rule.target_product_id is not None and (target := in_order([rule.target_product_id])):
        # Who is like it has it in the list.
        near = similar_products(target[0], _PRODUCTS, version=version)
        return [product.pk for product in near]
    return [product.pk for product in sample_products([version], _PRODUCTS)]
