"""Where pages report what was seen and clicked: ``POST similarity/events/``."""

from __future__ import annotations

import json
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from ..guards import guarded
from ..rate_limits import seconds_to_wait
from .events import BadEvent, record_events
from .tokens import BadToken, read

MAX_BODY = 16_384
MAX_EVENTS = 100


class _TooBig(ValueError):
    pass


# The token is signed by this shop and holds the only list that can be reported on, which is what a CSRF token would
# have to ensure; and navigator.sendBeacon can't send headers.
@csrf_exempt
@never_cache
@transaction.non_atomic_requests
@guarded
@require_POST
def events(request: HttpRequest) -> HttpResponse:
    """Record ``{"token": "...", "events": [{"kind": "impression"}, {"kind": "click", "product": "12"}]}``.

    The body is JSON whatever its content type says, since a beacon of another type would need a preflight. Answers 204,
    400 (no JSON, a bad token or event), 413 (longer than 16,384 bytes), 429 (more often than ``EVENT_RATE``) or 503
    (while the database is away).
    """
    wait = seconds_to_wait(request, "event_rate")
    if wait:
        response = _problem(429, _("Too many events: try again in %(seconds)d seconds.") % {"seconds": wait})
        response["Retry-After"] = str(wait)
        return response
    try:
        token, reports = _parse(_body(request))
        record_events(read(token), reports, request)
    except _TooBig as error:
        return _problem(413, str(error))
    except (BadToken, BadEvent) as error:
        return _problem(400, str(error))
    return HttpResponse(status=204)


def _body(request: HttpRequest) -> bytes:
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    # A length is only what the client says; the body is read no further than to what is too much.
    body = b"" if length > MAX_BODY else request.read(MAX_BODY + 1)
    if max(length, len(body)) > MAX_BODY:
        raise _TooBig(_("The body is longer than %(bytes)d bytes.") % {"bytes": MAX_BODY})
    return body


def _parse(body: bytes) -> tuple[str, list[tuple[str, Any]]]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadEvent(_("The body is no JSON.")) from error
    if not isinstance(message, dict):
        raise BadEvent(_("The body must be an object with a token and events."))
    token, reports = message.get("token"), message.get("events")
    if not isinstance(token, str):
        raise BadToken(_("The token is missing or is none."))
    if not isinstance(reports, list) or not 0 < len(reports) <= MAX_EVENTS:
        raise BadEvent(_("Send a list of 1 to %(count)d events.") % {"count": MAX_EVENTS})
    events = []
    for event in reports:
        kind = event.get("kind") if isinstance(event, dict) else None
        product = event.get("product") if isinstance(event, dict) else None
        if not isinstance(kind, str) or not isinstance(product, str | int | None) or isinstance(product, bool):
            raise BadEvent(_("Each event is an object with a kind and, for a click, the key of a product."))
        events.append((kind, product))
    return token, events


def _problem(status: int, detail: str) -> JsonResponse:
    return JsonResponse({"detail": detail}, status=status)
