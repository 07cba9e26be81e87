"""Errors of the API as problem details, RFC 9457.

Every error that the API answers with has the content type ``application/problem+json`` and the members ``type``,
``title``, ``status``, ``detail`` and, where single values are wrong, ``errors``. The shop's own exception handler is
neither used nor changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import set_rollback

from ..database import is_away
from ..engine_errors import EngineDown
from ..guards import AWAY_SECONDS, AWAY_SENTENCE, ENGINE_SENTENCE, log_database_away

MEDIA_TYPE = "application/problem+json"
_TYPE = "urn:problem-type:shop-similarity:"


class TooLarge(exceptions.APIException):
    """The body is larger than the API takes."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too-large"
    default_detail = _("The body of the request is too large.")


class Unprocessable(exceptions.APIException):
    """Every value is well-formed, but together, or in this shop, nothing can be done with them."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "unprocessable"
    default_detail = _("The request can't be fulfilled as it is.")

    def __init__(self, detail: Any = None, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class LeanUnavailable(Unprocessable):
    """The model version can't tell colour, pattern and shape apart."""

    default_code = "lean-unavailable"
    default_detail = _(
        "Results can't lean towards colour, pattern or shape: the model version in use can't tell them apart. "
        "Leave `lean` out."
    )


class ImageUnusable(Unprocessable):
    """The upload is no photo, or one that can't be read."""

    default_code = "image-unusable"
    default_detail = _("The photo can't be used.")


class TokenUnusable(Unprocessable):
    """A token that was not issued by this shop, was changed, or is too old."""

    default_code = "token-unusable"
    default_detail = _("The token is not valid or too old: send the one that came with the results.")


class Conflict(exceptions.APIException):
    """What is asked for is not possible in the present state."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"
    default_detail = _("This is not possible now.")


class Unavailable(exceptions.APIException):
    """Something is missing that will be there later; ``wait`` in seconds goes into ``Retry-After``."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    wait: int = 60


class NoActiveModel(Unavailable):
    """No model version is active yet."""

    default_code = "no-active-model"
    default_detail = _("Similar products can't be searched yet, because no model version is active.")


class DatabaseAway(Unavailable):
    """The database does not answer."""

    default_code = "database-away"
    default_detail = AWAY_SENTENCE
    wait = AWAY_SECONDS


class EngineAway(Unavailable):
    """What names the candidates of a search does not answer."""

    default_code = "search-engine-away"
    default_detail = ENGINE_SENTENCE
    wait = AWAY_SECONDS


class Busy(Unavailable):
    """No worker has answered in time, or too many photos wait."""

    default_code = "busy"
    default_detail = _("The search by photo is busy. Try again in a few seconds.")
    wait = 5


# Slug and title by class; the first that fits counts.
_KINDS: tuple[tuple[type[Exception], str, Any], ...] = (
    (exceptions.ValidationError, "invalid-values", _("Some values are not accepted")),
    (exceptions.ParseError, "malformed-body", _("The body can't be read")),
    (exceptions.NotAuthenticated, "not-authenticated", _("Credentials are needed")),
    (exceptions.AuthenticationFailed, "not-authenticated", _("The credentials are not accepted")),
    (exceptions.PermissionDenied, "permission-denied", _("Not allowed")),
    (exceptions.NotFound, "not-found", _("Not found")),
    (exceptions.MethodNotAllowed, "method-not-allowed", _("The method is not allowed")),
    (exceptions.NotAcceptable, "not-acceptable", _("No format that is accepted can be given")),
    (exceptions.UnsupportedMediaType, "unsupported-media-type", _("The content type is not supported")),
    (exceptions.Throttled, "throttled", _("Too many requests")),
    (TooLarge, "too-large", _("Too large")),
    (LeanUnavailable, "lean-unavailable", _("Results can't lean")),
    (ImageUnusable, "image-unusable", _("The photo can't be used")),
    (TokenUnusable, "token-unusable", _("The token can't be used")),
    (Unprocessable, "unprocessable", _("The request can't be fulfilled")),
    (Conflict, "conflict", _("Not possible now")),
    (NoActiveModel, "no-active-model", _("No model is active")),
    (DatabaseAway, "database-away", _("The database does not answer")),
    (EngineAway, "search-engine-away", _("The search does not answer")),
    (Busy, "busy", _("The service is busy")),
)


def problem_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """The exception handler of the API's views: an answer for errors of the request, None for those of the server."""
    error = _as_api_exception(error)
    if not isinstance(error, exceptions.APIException):
        return None
    slug, title = next(
        ((slug, title) for kind, slug, title in _KINDS if isinstance(error, kind)),
        (None, _("The request failed")),
    )
    problem = {
        "type": _TYPE + slug if slug else "about:blank",
        "title": str(title),
        "status": error.status_code,
        "detail": _sentence(error),
    }
    errors = list(_field_errors(error))
    if errors:
        problem["errors"] = errors
    headers = {}
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    set_rollback()
    return Response(problem, status=error.status_code, headers=headers, content_type=MEDIA_TYPE)


def _as_api_exception(error: Exception) -> Exception:
    if isinstance(error, Http404):
        return exceptions.NotFound(*error.args)
    if isinstance(error, PermissionDenied):
        return exceptions.PermissionDenied(*error.args)
    if isinstance(error, RequestDataTooBig):
        return TooLarge()
    if is_away(error):
        log_database_away(error)
        return DatabaseAway()
    if isinstance(error, EngineDown):
        return EngineAway()
    if isinstance(error, BadRequest | SuspiciousOperation):
        return exceptions.ParseError(str(error) or None)
    return error


def _sentence(error: exceptions.APIException) -> str:
    if isinstance(error, exceptions.ValidationError):
        return str(_("Some values are not accepted; `errors` says which and why."))
    detail = error.detail
    return str(detail) if isinstance(detail, str) else " ".join(text for _name, text, _code in _flat(detail, ""))


def _field_errors(error: exceptions.APIException) -> Iterator[dict[str, str]]:
    if isinstance(error, Unprocessable) and error.field:
        assert isinstance(error.detail, exceptions.ErrorDetail)
        yield {"name": error.field, "detail": str(error.detail), "code": str(error.detail.code)}
    if isinstance(error, exceptions.ValidationError):
        for name, text, code in _flat(error.detail, ""):
            yield {"name": name, "detail": text, "code": code}


def _flat(detail: Any, name: str) -> Iterator[tuple[str, str, str]]:
    """Name (with dots for what is nested), sentence and code of each mistake."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            part = "" if key == api_settings.NON_FIELD_ERRORS_KEY else str(key)
            yield from _flat(value, f"{name}.{part}".strip("."))
    elif isinstance(detail, list):
        for number, value in enumerate(detail):
            nested = isinstance(value, dict | list)
            yield from _flat(value, f"{name}.{number}".strip(".") if nested else name)
    else:
        yield name, str(detail), str(getattr(detail, "code", "invalid"))
