"""What the plugin's own pages in the admin have in common: their addresses, their guards and the way back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe


def admin_path(
    site: admin.AdminSite,
    route: str,
    view: Callable[..., HttpResponse],
    name: str,
    *,
    permission: str | None = None,
    post: bool = False,
) -> URLPattern:
    """A page below the admin: for staff who have ``permission``, read by GET or, with ``post``, done by POST alone.

    Args:
        view: called with the request, the site and the route's arguments.
        permission: None where the view decides by itself.
    """

    @functools.wraps(view)
    def guarded(request: HttpRequest, **arguments: Any) -> HttpResponse:
        if permission is not None and not request.user.has_perm(permission):
            raise PermissionDenied
        request.current_app = site.name
        return view(request, site, **arguments)

    return path(route, site.admin_view((require_POST if post else require_safe)(guarded)), name=name)


def render_page(
    request: HttpRequest, site: admin.AdminSite, template: str, title: str, context: dict[str, Any], status: int = 200
) -> TemplateResponse:
    """A page in the frame of the admin."""
    values = {**site.each_context(request), "title": title, **context}
    return TemplateResponse(request, f"shop_similarity/admin/{template}", values, status=status)


def admin_url(site: admin.AdminSite, name: str, *arguments: Any) -> str | None:
    """The address of a page of this site, None where the shop has not registered what it belongs to."""
    try:
        return reverse(f"admin:{name}", args=arguments, current_app=site.name)
    except NoReverseMatch:
        return None


def way_back(request: HttpRequest, default: str) -> str:
    """Where a form wants to return to, if that is a page of this host."""
    wanted = request.GET.get("next") or request.POST.get("next") or ""
    allowed = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if allowed else default
