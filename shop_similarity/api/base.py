"""What all views of the API share.

Every policy of REST framework but the authentication is set here, so that the API is the same in each shop, whatever
the shop's ``REST_FRAMEWORK`` setting says for its own views. Who a user is remains the shop's affair, but that nobody
can have a password hashed where everybody may ask, nor try one credential after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db import DataError, transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.decorators import method_decorator
from drf_spectacular.openapi import AutoSchema
from rest_framework.authentication import BaseAuthentication, BasicAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled, UnsupportedMediaType
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ..rate_limits import seconds_to_wait, take_back
from ..request_text import CHECKS_ITSELF, check_charset
from .problems import problem_handler
from .throttles import SearchThrottle

if TYPE_CHECKING:
    from rest_framework.views import AsView, GenericView


class PlainJSONRenderer(JSONRenderer):
    """JSON as REST framework writes it by default."""

    ensure_ascii = False
    compact = True
    strict = True


class AcceptHeaderNegotiation(DefaultContentNegotiation):
    """By the ``Accept`` header alone, not by a query parameter of the shop's choice."""

    class settings:
        URL_FORMAT_OVERRIDE = None


class HeaderRequest(Request):
    """A request whose CSRF token comes in the header.

    To look for it among the fields of a form, as Django does first, would read the body before its rate is counted; and
    no form of this API has such a field.
    """

    @property
    def POST(self) -> QueryDict:  # type: ignore[override]  # as that of REST framework's own request
        return QueryDict()


# A transaction of ATOMIC_REQUESTS would ask the database before its absence can be answered.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class SimilarityAPIView(APIView):
    """Base of the views that are open to everybody, like the shop's pages; they take no password."""

    renderer_classes = [PlainJSONRenderer]
    parser_classes: list = []
    permission_classes = [AllowAny]
    throttle_classes = [SearchThrottle]
    content_negotiation_class = AcceptHeaderNegotiation
    versioning_class = None
    metadata_class = None
    schema = AutoSchema()

    @classmethod
    def as_view(cls, **initkwargs: Any) -> AsView[GenericView]:
        view = super().as_view(**initkwargs)
        setattr(view, CHECKS_ITSELF, True)
        return view

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return problem_handler

    def get_format_suffix(self, **kwargs: Any) -> None:
        return None

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        return HeaderRequest(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [each for each in super().get_authenticators() if not isinstance(each, BasicAuthentication)]

    def perform_authentication(self, request: Request) -> None:
        is_attempt = "HTTP_AUTHORIZATION" in request.META and not all(
            isinstance(each, SessionAuthentication) for each in request.authenticators or ()
        )
        # By address: an account of the shop's shall not be worth another set of tries.
        if is_attempt and (seconds := seconds_to_wait(request, "login_rate", by_address=True)):
            raise Throttled(seconds)
        try:
            super().perform_authentication(request)
        except (ValueError, DataError) as error:
            # PostgreSQL holds no NUL, and a name or a token with one in it goes there unchecked.
            raise AuthenticationFailed from error
        if is_attempt:
            take_back(request, "login_rate", by_address=True)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_charset(request._request)
        super().initial(request, *args, **kwargs)
        # An empty body of a wrong type is wrong too; REST framework looks only at bodies that it has to read.
        if (
            self.parser_classes
            and request.method == "POST"
            and request.content_type
            and self.get_content_negotiator().select_parser(request, self.get_parsers()) is None
        ):
            raise UnsupportedMediaType(request.content_type)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        if getattr(response, "exception", False):
            # Also where the view itself answers in another format.
            response.accepted_renderer = PlainJSONRenderer()
            response.accepted_media_type = PlainJSONRenderer.media_type
        # Answers belong to one client: they hold a token, what the client may see, or the words of a language.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]  # the stubs know its own answer alone
        return HttpResponse(status=204)


class StaffAPIView(SimilarityAPIView):
    """Base of the views that need a permission; they know a user by whatever the shop has chosen, passwords too."""

    def get_authenticators(self) -> list[BaseAuthentication]:
        return APIView.get_authenticators(self)


def permission(codename: str) -> type[BasePermission]:
    """A permission class that admits users with one of the plugin's Django permissions."""

    class HasPermission(BasePermission):
        def has_permission(self, request: Request, view: APIView) -> bool:
            return bool(request.user and request.user.has_perm(f"shop_similarity.{codename}"))

    HasPermission.__name__ = f"Has_{codename}"
    return HasPermission
