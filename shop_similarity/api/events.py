"""What other programs report: impressions, clicks and additions to the basket."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiResponse, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from ..catalogue import segment_key
from ..feedback.events import BadEvent, record_events
from ..feedback.tokens import BadToken, read
from ..models import Event
from . import documentation
from .base import SimilarityAPIView
from .documentation import EVENTS_TAG, operation, problems
from .fields import BodySerializer, KeyField, TextField, choice_schema
from .parsers import JSONParser
from .problems import TokenUnusable, Unprocessable
from .serializers import component
from .throttles import EventThrottle

MAX_EVENTS = 100


@extend_schema_field(choice_schema(Event.Kind.values), component_name="SimilarityEventKind")
class KindField(serializers.ChoiceField):
    """Kind of an event."""


@component("SimilarityEvent")
class EventSerializer(BodySerializer):
    """One thing that a shopper did with a list."""

    kind = KindField(choices=Event.Kind.values)
    product = KeyField(
        required=False,
        help_text=_("Key of the product that was clicked or put into the basket, as text; not for an impression."),
    )


@component("SimilarityEvents")
class EventsSerializer(BodySerializer):
    """What shoppers did with one list."""

    token = TextField(max_length=8_192, help_text=_("The `token` that came with the list."))
    events = serializers.ListField(child=EventSerializer(), min_length=1, max_length=MAX_EVENTS)


class EventsView(SimilarityAPIView):
    parser_classes = [JSONParser]
    throttle_classes = [EventThrottle]

    @operation(
        operation_id="record_similarity_events",
        summary="Report what shoppers saw and clicked",
        description=(
            "Nothing about the shopper is recorded. An event that is reported twice counts once. A click or an "
            "addition to the basket brings the impression of its list along. Events of the shop's staff and of "
            "browsers that ask for privacy are accepted and dropped."
        ),
        tags=[EVENTS_TAG],
        request=EventsSerializer,
        responses={204: OpenApiResponse(description="Recorded."), **problems(400, 413, 415, 422)},
        examples=documentation.EVENTS,
    )
    def post(self, request: Request) -> Response:
        sent = EventsSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        values: dict[str, Any] = sent.validated_data
        try:
            reported = [
                (event["kind"], segment_key(event["product"]) if "product" in event else None)
                for event in values["events"]
            ]
            record_events(read(values["token"]), reported, request._request)
        except BadToken as error:
            raise TokenUnusable(str(error), field="token") from error
        except BadEvent as error:
            raise Unprocessable(str(error), field="events") from error
        return Response(status=204)
