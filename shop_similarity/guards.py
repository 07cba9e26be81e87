"""What all pages and fragments of the plugin do before and after their own work.

Text that no database could hold is refused before the view sees it, and while the database is away they say so (503)
instead of failing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext_lazy as _

from . import database
from .engine_errors import EngineDown
from .request_text import CHECKS_ITSELF, UnusableText, check_request

logger = logging.getLogger(__name__)

AWAY_SENTENCE = _("The shop's database does not answer at the moment; please try again in a few seconds.")
ENGINE_SENTENCE = _("The search for similar products does not answer at the moment; please try again in a few seconds.")
AWAY_SECONDS = 10


def guarded(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A view that answers 404 or 400 to unusable text and 503 while the database is away.

    The 503 is a small page for browsers, and ``{"detail": "..."}`` for everybody else.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            check_request(request)
            return view(request, *args, **kwargs)
        except UnusableText as error:
            return HttpResponse(str(error), status=400, content_type="text/plain; charset=utf-8")
        except DatabaseError as error:
            if not database.is_away(error):
                raise
            log_database_away(error)
            return unavailable(request, AWAY_SENTENCE)
        except EngineDown:
            return unavailable(request, ENGINE_SENTENCE)

    setattr(wrapped, CHECKS_ITSELF, True)
    return wrapped


def log_database_away(error: Exception) -> None:
    """Say once for each request what the database's trouble is; a traceback for each would bury it."""
    logger.error("The database does not answer. %s: %s", type(error).__name__, " ".join(str(error).split()))


def unavailable(request: HttpRequest, sentence: Any) -> HttpResponse:
    """503: a small page for browsers, ``{"detail": "..."}`` for everybody else."""
    if "text/html" in request.headers.get("Accept", ""):
        # Without the request, whose context processors may ask the database.
        page = render_to_string("shop_similarity/unavailable.html", {"sentence": sentence})
        response = HttpResponse(page, status=503)
    else:
        response = JsonResponse({"detail": str(sentence)}, status=503)
    response.headers["Retry-After"] = str(AWAY_SECONDS)
    response.headers["Cache-Control"] = "no-store"
    return response
