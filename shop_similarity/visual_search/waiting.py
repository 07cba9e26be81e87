"""Waiting for the worker's answer."""

from __future__ import annotations

import time

from django.utils.translation import gettext_lazy as _

from ..conf import get_settings
from ..models import VisualQuery
from .errors import Busy, Expired
from .queue import queries

_LOOK_SECONDS = 0.05


def wait(query: VisualQuery, seconds: float | None = None) -> VisualQuery:
    """Wait until a query is answered; looks at its row about twenty times a second.

    Args:
        query: what :func:`submit` returned.
        seconds: how long; ``VISUAL_SEARCH_WAIT_SECONDS`` by default. 0 looks once.

    Returns:
        The same query, brought up to date.

    Raises:
        Busy: not answered in that time. The query goes on waiting for up to a minute and may be waited for again.
        Expired: the photo was not embedded in time, could not be embedded, or the query is gone.
    """
    deadline = time.monotonic() + (get_settings().visual_search_wait_seconds if seconds is None else seconds)
    while True:
        row = queries().filter(pk=query.pk).values_list("answered_at", "error", "version").first()
        if row is None:
            raise Expired(VisualQuery.Error.GONE.label)
        query.answered_at, query.error, version = row
        if query.answered_at is not None:
            if query.error:
                raise Expired(query.error_sentence)
            # A worker takes the version that is active by then, where the query's is out of use.
            query.version_id = version
            return query
        if time.monotonic() >= deadline:
            raise Busy(
                _("The search by photo takes longer than usual; please try again in a few seconds."), retry_after=10
            )
        time.sleep(_LOOK_SECONDS)
