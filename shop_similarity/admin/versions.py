"""Model versions in the admin; the plugin's own pages hang below them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern

from . import access, activation, comparison, dashboard, mode_preview, product_pages
from .pages import admin_url


class DashboardAdmin(access.ReadOnlyAdmin):
    """The entry of the admin's index that leads to the dashboard, which hangs below :class:`ModelVersionAdmin`."""

    def get_urls(self) -> list[URLPattern]:
        # No pages of single versions, which are another admin's affair.
        return [pattern for pattern in super().get_urls() if (pattern.name or "").endswith("_changelist")]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_there = admin_url(self.admin_site, "shop_similarity_dashboard") is not None
        return is_there and request.user.has_perm(access.VIEW_DASHBOARD)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        address = admin_url(self.admin_site, "shop_similarity_dashboard")
        if address is None or not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(address)


class ModelVersionAdmin(access.ReadOnlyAdmin):
    """Versions to look at. What is done with them is done on the pages of :meth:`get_urls`."""

    list_display = ["name", "architecture", "state", "created_at", "activated_at", "activation_requested_at"]
    list_filter = ["state", "architecture"]
    search_fields = ["name"]
    # A link to the weights would be a download of them.
    exclude = ["weights"]
    change_list_template = "shop_similarity/admin/version_list.html"

    def get_urls(self) -> list[URLPattern]:
        pages = [
            *dashboard.urls(self.admin_site),
            *comparison.urls(self.admin_site),
            *activation.urls(self.admin_site),
            *product_pages.urls(self.admin_site),
            *mode_preview.urls(self.admin_site),
        ]
        return [*pages, *super().get_urls()]

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        # The admin's index leaves out apps of which nothing may be seen, and with them the way to the dashboard.
        pages = (access.VIEW_DASHBOARD, access.COMPARE_VERSIONS)
        return super().get_model_perms(request) | {"pages": any(map(request.user.has_perm, pages))}
