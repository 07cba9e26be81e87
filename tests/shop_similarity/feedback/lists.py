"""Lists of look-alikes that were shown on a day, and what was clicked on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, date, datetime, time

from django.core.cache import cache
from django.test import RequestFactory

from shop_similarity.clients import digest
from shop_similarity.feedback import tokens
from shop_similarity.feedback.events import record_events
from shop_similarity.models import VOTERS, ModelVersion, Surface


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
    visitor: int | None = None,
    address: str | None = None,
) -> tokens.Query:
    """One list through token and recording, as if it had been shown on that day.

    Args:
        visitor: the number, 0 to 255, that the client shall have as a voter on this product.
        address: of the client, where its number does not matter. Without either it is not known.
    """
    query = tokens.read(
        tokens.issue(version=version, surface=surface, product_id=product, shown=shown, experiment=experiment)
    )
    if day is not None:
        query = dataclasses.replace(query, issued_at=datetime.combine(day, time(hour), UTC))
    events = [("impression", None), *(("click", key) for key in clicks), *(("basket", key) for key in baskets)]
    if visitor is not None:
        address = address_of(product, visitor)
    # Each list is somebody's first of that day.
    cache.clear()
    request = None if address is None else RequestFactory().get("/", REMOTE_ADDR=address)
    assert record_events(query, events, request)
    return query


def address_of(product, visitor: int) -> str:
    """An address whose client has this number as a voter on the look-alikes of a product."""
    addresses = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(1 << 20))
    subject = f"product {product}"
    return next(each for each in addresses if int.from_bytes(digest(subject, each)[:8]) % VOTERS == visitor)
