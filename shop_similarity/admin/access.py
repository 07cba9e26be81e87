"""Who may do what in the admin: docs/admin.md has the table. What only the plugin itself writes, nobody may change."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_permission_codename
from django.db import models
from django.http import HttpRequest

from ..catalogue import get_catalogue
from .pages import CheckedAdmin

VIEW_DASHBOARD = "shop_similarity.view_dashboard"
COMPARE_VERSIONS = "shop_similarity.compare_modelversion"
ACTIVATE_VERSION = "shop_similarity.activate_modelversion"
RETRY_FAILED = "shop_similarity.retry_outboxentry"
REEMBED = "shop_similarity.reembed_product"
ADD_RULE = "shop_similarity.add_merchandisingrule"
VIEW_RULE = "shop_similarity.view_merchandisingrule"
CHANGE_RULE = "shop_similarity.change_merchandisingrule"
DELETE_RULE = "shop_similarity.delete_merchandisingrule"
RUN_EXPERIMENT = "shop_similarity.run_experiment"
VIEW_EXPERIMENT = "shop_similarity.view_experiment"


def may_view_products(request: HttpRequest) -> bool:
    """Whether the user may see the shop's products in the admin."""
    options = get_catalogue().product_model._meta
    return any(
        request.user.has_perm(f"{options.app_label}.{get_permission_codename(action, options)}")
        for action in ("view", "change")
    )


def may_preview(request: HttpRequest) -> bool:
    """Whether the user may see what a rule would change."""
    return any(map(request.user.has_perm, (ADD_RULE, CHANGE_RULE))) and may_view_products(request)


def products_for(request: HttpRequest) -> models.QuerySet:
    """The products whose names and pictures the user may see: those of the shop's pages, or all of them.

    Rules, failed photos and comparisons name products that the shop has not published yet, and who may see those is the
    shop's own permission.
    """
    catalogue = get_catalogue()
    return catalogue.all_products() if may_view_products(request) else catalogue.visible_products()


class ReadOnlyAdmin(CheckedAdmin):
    """Rows that only the plugin itself writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
