"""Middleware: one lets a visitor see the same model version on every page, one keeps unusable text from all views."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin

from .feedback.visitors import COOKIE, Visitor
from .request_text import CHECKS_ITSELF, check_request, check_session_cookie

_COOKIE_SECONDS = 90 * 86_400


class ExperimentMiddleware(MiddlewareMixin):
    """Keeps a visitor's bucket, a random number from 0 to 999, in a cookie while an experiment runs.

    Only a page that shows look-alikes while an experiment runs sets the cookie; such a page says ``Vary: Cookie``.
    """

    def process_request(self, request: HttpRequest) -> None:
        request.shop_similarity_visitor = Visitor.of(request)

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        visitor = getattr(request, "shop_similarity_visitor", None)
        if visitor is None or not visitor.mattered:
            return response
        patch_vary_headers(response, ["Cookie"])
        if visitor.drawn is not None:
            response.set_cookie(
                COOKIE,
                str(visitor.drawn),
                max_age=_COOKIE_SECONDS,
                path=settings.SESSION_COOKIE_PATH,
                domain=settings.SESSION_COOKIE_DOMAIN,
                secure=request.is_secure(),
                httponly=True,
                samesite="Lax",
            )
        return response


class UsableTextMiddleware(MiddlewareMixin):
    """Refuses addresses and session cookies with text that PostgreSQL can't hold, with 404 and 400, for every view.

    The plugin's own views do so by themselves. A shop that puts this first has the same for its own, and for Django's,
    which fail (500) on a NUL in the cookie of the session.
    """

    def process_request(self, request: HttpRequest) -> None:
        check_session_cookie(request)

    def process_view(self, request: HttpRequest, view: Any, *args: Any) -> None:
        # Later, for the shop's page for 404 may need what other middleware prepares; and not for those views of the
        # plugin that do it themselves, each in its own format.
        if not getattr(view, CHECKS_ITSELF, False):
            check_request(request)
