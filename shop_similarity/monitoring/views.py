"""Two views for programs that watch the shop: health and metrics. Strangers hear whether all is well, and no more."""

from __future__ import annotations

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from ..conf import get_settings
from . import exposition
from .health import DEFAULT, NAMES, examine

_SCHEME = "bearer "


def may_read(request: HttpRequest) -> bool:
    """Whether the caller has the token of ``MONITORING_TOKEN``, or is staff who may view the dashboard."""
    token = get_settings().monitoring_token
    given = request.headers.get("Authorization", "")
    if given[: len(_SCHEME)].lower() == _SCHEME:
        return token is not None and constant_time_compare(given[len(_SCHEME) :].strip(), token)
    user = getattr(request, "user", None)
    return user is not None and user.is_active and user.is_staff and user.has_perm("shop_similarity.view_dashboard")


def _may_read_now(request: HttpRequest) -> bool:
    """As :func:`may_read`, where the session may lie in a database that is away."""
    try:
        return may_read(request)
    except Exception:
        return False


@never_cache
@require_safe
@transaction.non_atomic_requests
def health(request: HttpRequest, name: str | None = None) -> HttpResponse:
    """200 where all checks are well, or the one of this name, else 503.

    ``{"status": "ok"}`` or ``"failing"`` for everybody; for who :func:`may_read`, ``checks`` has the sentence of each.
    """
    if name is not None and name not in NAMES:
        raise Http404
    results = examine(DEFAULT if name is None else [name])
    is_healthy = all(result.is_healthy for result in results)
    answer: dict = {"status": "ok" if is_healthy else "failing"}
    # With a dead database a session can't be read, and asking for it may take long.
    is_known = "Authorization" in request.headers or all(r.is_healthy for r in results if r.name == "database")
    if is_known and _may_read_now(request):
        answer["checks"] = {
            result.name: {"status": "ok" if result.is_healthy else "failing", "detail": result.sentence}
            for result in results
        }
    return JsonResponse(answer, status=200 if is_healthy else 503)


@never_cache
@require_safe
@transaction.non_atomic_requests
def metrics(request: HttpRequest) -> HttpResponse:
    """The metrics for Prometheus; 403 without the right to read them, 404 where ``METRICS`` is off."""
    if not get_settings().metrics:
        raise Http404
    if not may_read(request):
        return HttpResponse("Send the MONITORING_TOKEN as a bearer.\n", status=403, content_type="text/plain")
    try:
        content, kind = exposition.exposition()
    except exposition.NotInstalled as error:
        return HttpResponse(f"{error}\n", status=503, content_type="text/plain")
    return HttpResponse(content, content_type=kind)
