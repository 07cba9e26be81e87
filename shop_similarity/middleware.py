"""Middleware: one lets a visitor see the same model version on every page, one keeps unusable text from all views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from .feedback.visitors import COOKIE, Visitor
from .request_text import CHECKS_ITSELF, check_request, check_session_cookie

_COOKIE_SECONDS = 90 * 86_400


class _BothWays:
    """Middleware for WSGI and ASGI alike, none of whose work waits: under ASGI it goes without a thread of its own."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self):
            return self._later(request)
        self.begin(request)
        return self.end(request, self.get_response(request))

    async def _later(self, request: HttpRequest) -> HttpResponse:
        self.begin(request)
        return self.end(request, await self.get_response(request))

    def begin(self, request: HttpRequest) -> None:
        """Before the view."""

    def end(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """After it."""
        return response


class ExperimentMiddleware(_BothWays):
    """Keeps a visitor's bucket, a random number from 0 to 999, in a cookie while an experiment runs.

    Only a page that shows look-alikes while an experiment runs sets the cookie; such a page says ``Vary: Cookie``.
    """

    def begin(self, request: HttpRequest) -> None:
        vars(request)["shop_similarity_visitor"] = Visitor.of(request)

    def end(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
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


class UsableTextMiddleware(_BothWays):
    """Refuses addresses and session cookies with text that PostgreSQL can't hold, with 404 and 400, for every view.

    The plugin's own views do so by themselves. A shop that puts this first has the same for its own, and for Django's,
    which fail (500) on a NUL in the cookie of the session.
    """

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(self):
            # Django would call the other one in a thread.
            vars(self)["process_view"] = self._process_view_later

    def begin(self, request: HttpRequest) -> None:
        check_session_cookie(request)

    def process_view(self, request: HttpRequest, view: Any, *args: Any) -> None:
        # Later, for the shop's page for 404 may need what other middleware prepares; and not for those views of the
        # plugin that do it themselves, each in its own format.
        if not getattr(view, CHECKS_ITSELF, False):
            check_request(request)

    async def _process_view_later(self, request: HttpRequest, view: Any, *args: Any) -> None:
        type(self).process_view(self, request, view, *args)
