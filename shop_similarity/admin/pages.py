"""What the plugin's own pages in the admin have in common: their addresses, their guards and the way back."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from .. import database
from ..engine_errors import EngineDown
from ..guards import ENGINE_SENTENCE, unavailable
from ..request_text import check_request, check_values


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
    def permitted(request: HttpRequest, **arguments: Any) -> HttpResponse:
        if permission is not None and not request.user.has_perm(permission):
            raise PermissionDenied
        request.current_app = site.name
        # Who has just changed something sees it changed.
        with database.on_primary():
            try:
                return view(request, site, **arguments)
            except EngineDown:
                return unavailable(request, ENGINE_SENTENCE)

    return checked(path(route, site.admin_view((require_POST if post else require_safe)(permitted)), name=name))


def checked(pattern: URLPattern) -> URLPattern:
    """The same address, where unusable text is refused before the view sees it."""
    view = pattern.callback

    @functools.wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **arguments: Any) -> HttpResponse:
        check_request(request)
        # How long a text may be, its field says.
        check_values(request.POST, math.inf)
        return view(request, *args, **arguments)

    pattern.callback = wrapped
    return pattern


class CheckedAdmin(admin.ModelAdmin):
    """A model admin of the plugin: none of Django's own pages for it sees unusable text either."""

    def get_urls(self) -> list[URLPattern]:
        return [checked(pattern) for pattern in super().get_urls()]


def render_page(
    request: HttpRequest,
    site: admin.AdminSite,
    template: str,
    title: str,
    context: dict[str, Any],
    status: int = 200,
    *,
    entry: str | None = None,
) -> TemplateResponse:
    """A page in the frame of the admin.

    Args:
        entry: name of the address of the sidebar's entry that the page belongs to. By default Django marks each entry
            whose address the page's begins with, which is that of the versions.
    """
    values = {**site.each_context(request), "title": title, **context}
    if entry is not None:
        # All that Django's sidebar asks of a request is where it went. Without such an entry the app alone is marked.
        elsewhere = copy.copy(request)
        elsewhere.path = admin_url(site, entry) or reverse(
            "admin:app_list", args=["shop_similarity"], current_app=site.name
        )
        values["as_for_entry"] = elsewhere
    return TemplateResponse(request, f"shop_similarity/admin/{template}", values, status=status)


def admin_url(site: admin.AdminSite, name: str, *arguments: Any) -> str | None:
    """The address of a page of this site, None where the shop has not registered what it belongs to."""
    try:
        return reverse(f"admin:{name}", args=arguments, current_app=site.name)
    except NoReverseMatch:
        return None


def row_key(text: str) -> int | None:
    """The key of a row of the plugin's, from a form; None where the form has none.

    Raises:
        Http404: no row can have it.
    """
    if not text:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise Http404
    return int(text)


def way_back(request: HttpRequest, default: str) -> str:
    """Where a form wants to return to, if that is a page of this host."""
    wanted = request.GET.get("next") or request.POST.get("next") or ""
    allowed = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if allowed else default
