"""What Wagtail's admin is told: the report, its entry in the menu of reports, and the permissions of groups."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Permission
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _
from wagtail import hooks
from wagtail.admin.menu import MenuItem

from .reports import RETRY_FAILED, URL_NAME, VIEW_DASHBOARD, SimilarProductsReport


class _ReportItem(MenuItem):
    def is_shown(self, request: HttpRequest) -> bool:
        return request.user.has_perm(VIEW_DASHBOARD)


@hooks.register("register_admin_urls")
def _urls() -> list[URLPattern]:
    return [path("reports/similar-products/", SimilarProductsReport.as_view(), name=URL_NAME)]


@hooks.register("register_reports_menu_item")
def _menu_item(*args: Any) -> MenuItem:
    return _ReportItem(_("Similar products"), reverse(URL_NAME), "similar-products", icon_name="image", order=1300)


@hooks.register("register_permissions")
def _permissions() -> QuerySet:
    names = [name.split(".", 1)[1] for name in (VIEW_DASHBOARD, RETRY_FAILED)]
    return Permission.objects.filter(content_type__app_label="shop_similarity", codename__in=names)
