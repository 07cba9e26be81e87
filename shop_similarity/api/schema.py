"""The OpenAPI schema of the API and a page that shows it."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import get_script_prefix, get_urlconf
from django.utils.translation import get_language
from django.views.decorators.http import require_safe
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from drf_spectacular.plumbing import build_root_object, normalize_result_object, sanitize_result_object
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from rest_framework.request import Request
from rest_framework.response import Response

from ..guards import guarded
from .base import SimilarityAPIView
from .documentation import EVENTS_TAG, OPERATIONS_TAG, SEARCH_TAG, operation

API_VERSION = "1.0.0"

_DESCRIPTION = """\
Products that look alike: by product, by several products at once, by photo.

Public operations need no credentials, those under *Operation* a user with the permission that they name. Lists are
paged by `limit` and `offset`; `next` and `previous` are the links, `next` is null at the end. How many there are in all
is not said, for nobody knows without comparing all of them.

Errors are problem details (RFC 9457, `application/problem+json`): 400 for a value that does not fit its description,
422 for values that are right by themselves and still lead nowhere, 429 and 503 with `Retry-After`.
"""


class _OwnEndpoints(EndpointEnumerator):
    """The plugin's endpoints alone, whatever hooks the shop has for its own schema."""

    def get_api_endpoints(self, patterns: Any = None, prefix: str = "") -> list[Any]:
        endpoints = self._get_api_endpoints(patterns, prefix)
        return [endpoint for endpoint in endpoints if issubclass(endpoint[3].cls, SimilarityAPIView)]


class OwnSchemaGenerator(SchemaGenerator):
    """The schema of the plugin's API, without the title, hooks and servers that the shop has set for its own."""

    endpoint_inspector_cls = _OwnEndpoints

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        result = build_root_object(
            paths=self.parse(request, public), components=self.registry.build({}), webhooks={}, version=None
        )
        result["info"] = {"title": "Shop similarity", "version": API_VERSION, "description": _DESCRIPTION}
        result["tags"] = [{"name": name} for name in (SEARCH_TAG, EVENTS_TAG, OPERATIONS_TAG)]
        for name in ("servers", "security", "externalDocs"):
            result.pop(name, None)
        return sanitize_result_object(normalize_result_object(result))


_schemas: dict[tuple[Any, ...], dict[str, Any]] = {}


def own_schema() -> dict[str, Any]:
    """The schema as a dictionary, made once for each language and place where the API is mounted."""
    key = (get_language(), get_script_prefix(), get_urlconf() or settings.ROOT_URLCONF)
    if key not in _schemas:
        _schemas[key] = OwnSchemaGenerator().get_schema(request=None, public=True)
    return _schemas[key]


class SchemaView(SimilarityAPIView):
    """The OpenAPI schema, as YAML or JSON."""

    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer, OpenApiYamlRenderer2]

    @operation(exclude=True)
    def get(self, request: Request) -> Response:
        return Response(own_schema())


@guarded
@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """Swagger UI over the schema, from this server's own files and without inline script, for strict policies."""
    context = {
        "has_swagger_ui": apps.is_installed("drf_spectacular_sidecar"),
        "csrf_token_value": get_token(request),
        "csrf_header": settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-"),
    }
    return render(request, "shop_similarity/api_docs.html", context)
