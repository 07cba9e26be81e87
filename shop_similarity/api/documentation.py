"""What the OpenAPI schema says beside the fields: examples and errors of every operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema

from .problems import MEDIA_TYPE
from .serializers import ProblemSerializer


def operation(**described: Any) -> Callable[[Callable], Callable]:
    """``extend_schema`` for a method of a view, also in a shop whose ``DEFAULT_SCHEMA_CLASS`` is another one."""

    def decorate(method: Callable) -> Callable:
        vars(method)["kwargs"] = {"schema": AutoSchema}
        return extend_schema(**described)(method)

    return decorate


class _ClosedForm(OpenApiSerializerExtension):
    """Fields that the form does not have are refused, so the schema says that there are no others."""

    target_class = "shop_similarity.api.parameters.ImageForm"

    def map_serializer(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False}


SEARCH_TAG = "Similar products"
EVENTS_TAG = "Events"
OPERATIONS_TAG = "Operation"

_TYPE = "urn:problem-type:shop-similarity:"
_LIST = {
    "version": "mildnet-2",
    "query_id": "7c5b0a52-9a0f-4dc5-9f0b-2a64f3a9b1de",
    "token": "WyI3YzViMGE1MiJd:1uXkqT:kQ1W9c",  # an example for the docs  # nosec B105
    "events_url": "https://shop.example/similarity/events/",
}
_RESULT = {
    "id": "42",
    "name": "Striped shirt",
    "url": "https://shop.example/product/striped-shirt/",
    "image": {
        "url": "https://shop.example/media/small/shirt-240.webp",
        "srcset": "https://shop.example/media/small/shirt-240.webp 240w, "
        "https://shop.example/media/small/shirt-480.webp 480w",
        "width": 480,
        "height": 640,
    },
    "similarity": 0.8312,
    "pinned": False,
    "explanation": None,
}
_EXPLAINED = _RESULT | {
    "explanation": {
        "colour": 0.29,
        "pattern": 0.13,
        "shape": 0.58,
        "sentence": "Similar mainly in shape, then in colour",
    }
}
_BASE = "https://shop.example/api/similarity/v1/"
_PHOTO_SEARCH = {"id": "0b6ac1ff-8e0f-4f0e-b4a4-5d1a3f1f5a0e", "expires_at": "2027-01-31T13:00:00Z"}
_VERSION = {
    "name": "mildnet-2",
    "architecture": "mildnet",
    "state": "candidate",
    "created_at": "2027-01-30T09:12:00Z",
    "activated_at": None,
    "activation_requested_at": None,
    "activation_note": "",
    "weights_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "embedded": 361,
    "products_embedded": 181,
    "pending": 1,
    "failed": 0,
    "coverage": 0.9972,
    "is_about": False,
    "index": {"name": "shop_similarity_code_v2", "state": "absent", "bytes": 0},
    "code_recall": {
        "recall": 0.996,
        "filtered_recall": 1.0,
        "products": 50,
        "measured_at": "2027-01-31T01:00:07Z",
        "warning": "",
    },
    "metrics": {"evaluation": {"recall@8": 0.71}},
}


def _answer(name: str, value: Any, status: int = 200) -> OpenApiExample:
    return OpenApiExample(name, value=value, response_only=True, status_codes=[str(status)])


def request_example(name: str, value: Any, media_type: str) -> OpenApiExample:
    return OpenApiExample(name, value=value, request_only=True, media_type=media_type)


SIMILAR_PRODUCTS = [
    _answer(
        "Look-alikes with an explanation",
        {
            **_LIST,
            "next": f"{_BASE}products/7/similar/?limit=1&explain=true&offset=1",
            "previous": None,
            "results": [_EXPLAINED],
            "product": "7",
        },
    )
]
BASKET = [
    _answer(
        "Look-alikes of a basket",
        {
            **_LIST,
            "next": None,
            "previous": None,
            "results": [_RESULT],
            "products": ["7", "9"],
            "unknown": ["12"],
        },
    )
]
IMAGE_SEARCH = [
    _answer(
        "Look-alikes of a photo",
        {
            **_LIST,
            "next": f"{_BASE}search/image/{_PHOTO_SEARCH['id']}/?limit=1&offset=1",
            "previous": None,
            "results": [_RESULT],
            **_PHOTO_SEARCH,
        },
    )
]
EVENTS = [
    request_example(
        "The list was seen, its first product clicked",
        {"token": _LIST["token"], "events": [{"kind": "impression"}, {"kind": "click", "product": "42"}]},
        "application/json",
    )
]
FEED = [
    OpenApiExample(
        "Two products",
        value='{"product":"7","version":"mildnet-2","similar":[{"id":"42","similarity":0.8312,"pinned":false}]}\n'
        '{"product":"9","version":"mildnet-2","similar":[]}\n',
        media_type="application/x-ndjson",
        response_only=True,
        status_codes=["200"],
    ),
    OpenApiExample(
        "Two products",
        value="product,position,similar,similarity,pinned\n7,1,42,0.8312,false\n9,,,,\n",
        media_type="text/csv",
        response_only=True,
        status_codes=["200"],
    ),
]
STATUS = [
    _answer(
        "All but one photo embedded",
        {
            "products": 181,
            "products_with_images": 178,
            "images": 362,
            "active_version": "mildnet-2",
            "standby_version": "mildnet-1",
            "embedded": 361,
            "pending": 1,
            "failed": 0,
            "coverage": 0.9972,
            "worker_seen_at": "2027-01-31T11:59:30Z",
            "is_about": False,
            "sweeps": [{"started_at": "2027-01-31T11:59:00Z", "with_files": True, "examined": 120}],
            "last_sweep": {
                "finished_at": "2027-01-31T11:58:00Z",
                "with_files": True,
                "enqueued": 1,
                "removed": 0,
            },
            "engine": "pgvector",
            "engine_trouble": [],
        },
    )
]
VERSIONS = [_answer("One candidate", {"count": 1, "next": None, "previous": None, "results": [_VERSION]})]
_DETAIL = {
    **_VERSION,
    "explains": True,
    "is_ready": False,
    "obstacles": [
        "mildnet-2 lacks 1 of the 362 photos that mildnet-1 shows (it has 99.7 % of all): a running worker embeds "
        "them, or run `manage.py embed_products --model mildnet-2`."
    ],
}
VERSION = [_answer("A candidate", _DETAIL)]
ACTIVATION = [
    request_example("With a note", {"note": "Better on the winter collection", "force": False}, "application/json"),
    _answer("Active now", _DETAIL | {"state": "active", "is_ready": True, "obstacles": []}, 200),
    _answer("Active as soon as it is ready", _DETAIL | {"activation_requested_at": "2027-01-31T12:00:00Z"}, 202),
]

# Status, what it means here, and an example of it.
_PROBLEMS: dict[int, tuple[str, dict[str, Any]]] = {
    400: (
        "A value is not accepted, or the body can't be read.",
        {
            "type": _TYPE + "invalid-values",
            "title": "Some values are not accepted",
            "detail": "Some values are not accepted; `errors` says which and why.",
            "errors": [
                {
                    "name": "limit",
                    "detail": "Ensure this value is less than or equal to 100.",
                    "code": "max_value",
                }
            ],
        },
    ),
    401: (
        "The credentials are missing or wrong. `WWW-Authenticate` says how to give them.",
        {
            "type": _TYPE + "not-authenticated",
            "title": "Credentials are needed",
            "detail": "Authentication credentials were not provided.",
        },
    ),
    403: (
        "The user lacks the permission, or the CSRF token is missing.",
        {
            "type": _TYPE + "permission-denied",
            "title": "Not allowed",
            "detail": "You do not have permission to perform this action.",
        },
    ),
    404: (
        "There is no such thing, or it is not shown any more.",
        {"type": _TYPE + "not-found", "title": "Not found", "detail": "There is no such product."},
    ),
    405: (
        "The address does not know the method.",
        {
            "type": _TYPE + "method-not-allowed",
            "title": "The method is not allowed",
            "detail": 'Method "DELETE" not allowed.',
        },
    ),
    406: (
        "The `Accept` header excludes all that can be given.",
        {
            "type": _TYPE + "not-acceptable",
            "title": "No format that is accepted can be given",
            "detail": "Could not satisfy the request Accept header.",
        },
    ),
    409: (
        "The state of the versions, or the comparison with the active one, speaks against it.",
        {
            "type": _TYPE + "conflict",
            "title": "Not possible now",
            "detail": "mildnet-2 has no evaluation. It can be forced: `manage.py activate_model mildnet-2 --force`.",
        },
    ),
    413: (
        "The body is too large; it was not read.",
        {
            "type": _TYPE + "too-large",
            "title": "Too large",
            "detail": "The body of the request is larger than 10551296 bytes.",
        },
    ),
    415: (
        "The body has another content type than this operation takes.",
        {
            "type": _TYPE + "unsupported-media-type",
            "title": "The content type is not supported",
            "detail": 'Unsupported media type "text/plain" in request.',
        },
    ),
    422: (
        "Every value is well-formed, but nothing can be done with them in this shop.",
        {
            "type": _TYPE + "lean-unavailable",
            "title": "Results can't lean",
            "detail": "Results can't lean towards colour, pattern or shape: the model version in use can't tell them "
            "apart. Leave `lean` out.",
            "errors": [{"name": "lean", "detail": "The model version can't tell aspects apart.", "code": "invalid"}],
        },
    ),
    429: (
        "Too many requests, or too many with wrong credentials; `Retry-After` says in how many seconds to come back.",
        {
            "type": _TYPE + "throttled",
            "title": "Too many requests",
            "detail": "Request was throttled. Expected available in 12 seconds.",
        },
    ),
    503: (
        "No model version is active yet, or worker or database do not answer; `Retry-After` says in how many seconds "
        "to come back.",
        {
            "type": _TYPE + "busy",
            "title": "The service is busy",
            "detail": "The search by photo takes longer than usual; please try again in a few seconds.",
        },
    ),
}


def problems(*statuses: int) -> dict[tuple[int, str], OpenApiResponse]:
    """Responses of an operation that are errors; those that every operation knows are added."""
    return {
        (status, MEDIA_TYPE): OpenApiResponse(
            ProblemSerializer,
            description=_PROBLEMS[status][0],
            examples=[
                OpenApiExample(
                    _PROBLEMS[status][1]["title"],
                    value={**_PROBLEMS[status][1], "status": status},
                    media_type=MEDIA_TYPE,
                    response_only=True,
                    status_codes=[str(status)],
                )
            ],
        )
        for status in sorted({*statuses, 401, 403, 405, 406, 429, 503})
    }
