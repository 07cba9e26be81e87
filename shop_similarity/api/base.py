"""What all views of the API share.

Every policy of REST framework but the authentication is set here, so that the API is the same in each shop, whatever
the shop's ``REST_FRAMEWORK`` setting says for its own views. Who a user is remains the shop's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import DataError
from django.http import HttpResponse
from drf_spectacular.openapi import AutoSchema
from rest_framework.exceptions import AuthenticationFailed, UnsupportedMediaType
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .problems import problem_handler
from .throttles import SearchThrottle


class PlainJSONRenderer(JSONRenderer):
    """JSON as REST framework writes it by default."""

    ensure_ascii = False
    compact = True
    strict = True


class AcceptHeaderNegotiation(DefaultContentNegotiation):
    """By the ``Accept`` header alone, not by a query parameter of the shop's choice."""

    class settings:
        URL_FORMAT_OVERRIDE = None


class SimilarityAPIView(APIView):
    """Base of the API's views; by itself it is open to everybody, like the shop's pages."""

    renderer_classes = [PlainJSONRenderer]
    parser_classes: list = []
    permission_classes = [AllowAny]
    throttle_classes = [SearchThrottle]
    content_negotiation_class = AcceptHeaderNegotiation
    versioning_class = None
    metadata_class = None
    schema = AutoSchema()

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return problem_handler

    def get_format_suffix(self, **kwargs: Any) -> None:
        return None

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        except (ValueError, DataError) as error:
            # PostgreSQL holds no NUL, and a name or a token with one in it goes there unchecked.
            raise AuthenticationFailed from error

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # An empty body of a wrong type is wrong too; REST framework looks only at bodies that it has to read.
        if (
            self.parser_classes
            and request.method == "POST"
            and request.content_type
            and self.get_content_negotiator().select_parser(request, self.get_parsers()) is None
        ):
            raise UnsupportedMediaType(request.content_type)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().finalize_response(request, response, *args, **kwargs)
        if getattr(response, "exception", False):
            # Also where the view itself answers in another format.
            response.accepted_renderer = PlainJSONRenderer()
            response.accepted_media_type = PlainJSONRenderer.media_type
        # Answers belong to one client: they hold a token, what the client may see, or the words of a language.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse(status=204)


def permission(codename: str) -> type[BasePermission]:
    """A permission class that admits users with one of the plugin's Django permissions."""

    class HasPermission(BasePermission):
        def has_permission(self, request: Request, view: APIView) -> bool:
            return bool(request.user and request.user.has_perm(f"shop_similarity.{codename}"))

    HasPermission.__name__ = f"Has_{codename}"
    return HasPermission
