"""Model versions in the admin; the plugin's own pages hang below them."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import URLPattern

from . import access, activation, comparison, dashboard, product_pages


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
        ]
        return [*pages, *super().get_urls()]

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        # The admin's index leaves out apps of which nothing may be seen, and with them the way to the dashboard.
        pages = (access.VIEW_DASHBOARD, access.COMPARE_VERSIONS)
        return super().get_model_perms(request) | {"pages": any(map(request.user.has_perm, pages))}
