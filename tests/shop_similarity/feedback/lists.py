"""Lists of look-alikes that were shown on a day, and what was clicked on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, date, datetime, time

from shop_similarity.feedback import tokens
from shop_similarity.feedback.events import record_events
from shop_similarity.models import ModelVersion, Surface


def show(
    version: ModelVersion,
    shown: Sequence,
    *,
    product=None,
    surface: str = Surface.WIDGET,
    clicks: Sequence = (),
    baskets: Sequence = (),
    day: date | None = None,
    hour: int = 12,
    experiment=None,
) -> tokens.Query:
    """One list through token and recording, as if it had been shown on that day."""
    query = tokens.read(
        tokens.issue(version=version, surface=surface, product_id=product, shown=shown, experiment=experiment)
    )
    if day is not None:
        query = dataclasses.replace(query, issued_at=datetime.combine(day, time(hour), UTC))
    events = [("impression", None), *(("click", key) for key in clicks), *(("basket", key) for key in baskets)]
    assert record_events(query, events)
    return query
