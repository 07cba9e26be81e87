"""Which products shoppers prefer to others as look-alikes: "click > skip above".

What stands first is clicked because it stands first, so clicks alone would teach a model what an older one put on top.
But who clicks the fourth product has looked at the first three and left them, so the fourth is preferred to each of
them (Joachims, "Optimizing Search Engines using Clickthrough Data", KDD 2002). Nothing is concluded about what stands
below the click, which may not have been seen, and a click on the first says nothing at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from .. import database
from ..models import Event, Preference
from .daily_sums import last_closed_day, span

_EVENTS = Event._meta.db_table


def _preferred(key_type: str) -> str:
    # An add-to-basket from the list is a choice as well. Who chose two products of a list skipped neither.
    return f"""
        WITH chosen AS (
            SELECT DISTINCT query_id, target_product_id, position FROM {_EVENTS}
            WHERE kind <> 'impression' AND product_id IS NOT NULL AND shown_at >= %(begin)s AND shown_at < %(end)s
        )
        SELECT list.product_id AS product, chosen.target_product_id AS chosen, above.key::{key_type} AS skipped,
               count(*) AS times, max((list.shown_at AT TIME ZONE 'UTC')::date) AS last_day
        FROM chosen
        JOIN {_EVENTS} list ON list.query_id = chosen.query_id AND list.kind = 'impression'
        CROSS JOIN LATERAL unnest(list.shown[: chosen.position - 1]) AS above (key)
        WHERE chosen.target_product_id <> list.product_id
            AND above.key::{key_type} NOT IN (list.product_id, chosen.target_product_id)
            AND NOT EXISTS (
                SELECT FROM chosen other
                WHERE other.query_id = chosen.query_id AND other.target_product_id = above.key::{key_type}
            )
        GROUP BY 1, 2, 3
    """  # noqa: S608


def add_day(day: date) -> None:
    """Add what a day's clicks prefer to the table: once for each day, in the transaction that closes it."""
    with database.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {Preference._meta.db_table} AS known (product_id, chosen_id, skipped_id, count, last_day) "
            f"{_preferred(_key_type())} ORDER BY 1, 2, 3 "
            "ON CONFLICT (product_id, chosen_id, skipped_id) DO UPDATE "
            "SET count = known.count + excluded.count, last_day = greatest(known.last_day, excluded.last_day)",
            span(day, day),
        )


def preferences() -> Iterator[tuple[Any, Any, Any, int]]:
    """``(product, chosen, skipped, times)`` of all closed days and the raw events of the others, each triple once.

    So often, on the look-alikes of the first, the second was chosen and the third, which stood above it, was not.
    """
    counts: Counter[tuple[Any, Any, Any]] = Counter()
    rows = Preference.objects.order_by().values_list("product_id", "chosen_id", "skipped_id", "count")
    for *triple, count in rows.iterator(chunk_size=5_000):
        counts[tuple(triple)] += count
    closed = last_closed_day()
    first = date.min if closed is None else closed + timedelta(days=1)
    with database.cursor() as cursor:
        cursor.execute(_preferred(_key_type()), span(first, date.max - timedelta(days=2)))
        for product, chosen, skipped, count, _day in cursor:
            counts[product, chosen, skipped] += count
    for triple, count in sorted(counts.items(), key=lambda item: tuple(map(str, item[0]))):
        yield *triple, count


def _key_type() -> str:
    return Preference._meta.get_field("chosen_id").db_type(database.connection())
