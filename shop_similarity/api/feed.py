"""The feed: look-alikes of all products as JSON lines or CSV, page after page."""

from __future__ import annotations

from datetime import tzinfo
from itertools import chain, islice
from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from ..catalogue import NotAKeyError, product_key
from ..models import ModelVersion
from ..search import searched_version
from ..search.results import allowed_products
from ..storefront.feed import FORMATS, PAGE, FeedOptions, feed_keys, feed_lines, written
from . import documentation
from .base import StaffAPIView, permission
from .documentation import OPERATIONS_TAG, operation, problems
from .fields import BooleanField, IntegerField, KeyField, choice_schema
from .parameters import ProductParameters, search_options
from .problems import NoActiveModel, Unprocessable
from .throttles import FeedThrottle

MAX_PRODUCTS = 500
MAX_LOOK_ALIKES = 50


class _Lines(BaseRenderer):
    """Says which formats there are; what is streamed is written elsewhere."""

    media_type, format = "application/x-ndjson", "jsonl"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        raise NotImplementedError


class _Table(_Lines):
    media_type, format = "text/csv", "csv"


@extend_schema_field(choice_schema(list(FORMATS)), component_name="SimilarityFeedFormat")
class FormatField(serializers.ChoiceField):
    """How the feed is written."""


class MomentField(serializers.DateTimeField):
    """A moment with its zone, in shops too that keep times without one."""

    def default_timezone(self) -> tzinfo:
        return timezone.get_current_timezone()


class FeedParameters(ProductParameters):
    """Of the searches' parameters those that make sense for all products alike."""

    limit = IntegerField(
        min_value=1, max_value=MAX_LOOK_ALIKES, default=8, help_text=_("How many look-alikes each product has.")
    )
    products = IntegerField(
        min_value=1, max_value=MAX_PRODUCTS, default=PAGE, help_text=_("How many products come in one answer.")
    )
    after = KeyField(
        required=False, help_text=_("Key of the last product that was read; the answer goes on behind it.")
    )
    since = MomentField(
        required=False,
        help_text=_(
            "Only products whose photos, or rules about them, have changed since then; all of them where a model "
            "version was activated since, or a rule for all products changed."
        ),
    )
    alternatives = BooleanField(default=False, help_text=_("Only products that are sold out."))
    details = BooleanField(default=False, help_text=_("Whether look-alikes come with name, address and picture."))
    format = FormatField(
        choices=list(FORMATS), required=False, help_text=_("By default what the `Accept` header asks for.")
    )
    # None takes a field of the class above away.
    offset: Any = None
    explain: Any = None
    lean: Any = None


class FeedView(StaffAPIView):
    renderer_classes = [_Lines, _Table]
    permission_classes = [permission("view_feed")]
    throttle_classes = [FeedThrottle]

    @operation(
        operation_id="similarity_feed",
        summary="Look-alikes of all products, page after page",
        description=(
            "For e-mail and advertising systems. One JSON object a line, or CSV. The header `Link` names the next "
            "page; there is none behind the last one. Needs the permission `shop_similarity.view_feed`."
        ),
        tags=[OPERATIONS_TAG],
        parameters=[FeedParameters],
        responses={
            (200, "application/x-ndjson"): OpenApiTypes.STR,
            (200, "text/csv"): OpenApiTypes.STR,
            **problems(400, 422, 503),
        },
        examples=documentation.FEED,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        values = FeedParameters.read(request.query_params)
        options = FeedOptions(
            search_options({**values, "offset": 0, "explain": False}),
            values.get("since"),
            values["alternatives"],
            values["details"],
            request.build_absolute_uri,
        )
        version, after = searched_version(), _after(values)
        if version is None:
            raise NoActiveModel
        kind = values.get("format") or request.accepted_renderer.format
        size = values["products"]
        keys = _keys(options, version, after, size + 1)
        lines = feed_lines(options, version, keys[:size])
        # An engine or a database that is away is told by the status, as long as there is none yet.
        lines = chain(list(islice(lines, 1)), lines)
        pieces = written(lines, kind, details=options.details, with_header=after is None)
        response = StreamingHttpResponse(pieces, content_type=FORMATS[kind])
        if len(keys) > size:
            parameters = request.query_params.copy()
            parameters["after"] = str(keys[size - 1])
            address = request.build_absolute_uri(f"{request.path}?{parameters.urlencode()}")
            response.headers["Link"] = f'<{address}>; rel="next"'
        return response


def _after(values: dict[str, Any]) -> Any:
    if "after" not in values:
        return None
    try:
        return product_key(values["after"])
    except NotAKeyError as error:
        raise Unprocessable(str(error), field="after") from error


def _keys(options: FeedOptions, version: ModelVersion, after: Any, size: int) -> list[Any]:
    try:
        # A filter that this shop does not have is noticed before the first line is sent.
        allowed_products(None, options.search)
        return feed_keys(options, version, after, size)
    except ValueError as error:
        raise Unprocessable(str(error)) from error
