"""Which products shoppers prefer to others as look-alikes: "click > skip above".

What stands first is clicked because it stands first, so clicks alone would teach a model what an older one put on top.
But who clicks the fourth product has looked at the first three and left them, so the fourth is preferred to each of
them (Joachims, "Optimizing Search Engines using Clickthrough Data", KDD 2002). Nothing is concluded about what stands
below the click, which may not have been seen, and a click on the first says nothing at all.

Clients are counted and not clicks: one has one vote, however often it clicks and on however many days. Each has one of
256 numbers (:mod:`.voters`), so how many there were is estimated from how many numbers are taken, by linear counting
(Whang et al., "A linear-time probabilistic counting algorithm for database applications", TODS 1990).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, NamedTuple

from .. import database
from ..models import VOTERS, Event, Preference
from .daily_sums import last_closed_day, span

_EVENTS = Event._meta.db_table
# With more of the numbers taken, they say little about how many clients there were; so many will not be one loud one.
_MOST_TAKEN = VOTERS * 7 // 8


class Votes(NamedTuple):
    """What the clients of a shop prefer, on the look-alikes of ``product``.

    Attributes:
        product, chosen, skipped: keys of products; the second was clicked, the third stood above it and was not.
        visitors: how many clients chose so.
        days: on how many days (UTC) at least one did.
    """

    product: Any
    chosen: Any
    skipped: Any
    visitors: int
    days: int


def _preferred(key_type: str) -> str:
    # An add-to-basket from the list is a choice as well. Who chose two products of a list skipped neither.
    return f"""
        WITH chosen AS (
            SELECT query_id, target_product_id, position, min(voter) AS voter FROM {_EVENTS}
            WHERE kind <> 'impression' AND product_id IS NOT NULL AND shown_at >= %(begin)s AND shown_at < %(end)s
            GROUP BY 1, 2, 3
        ), votes AS (
            SELECT list.product_id AS product, chosen.target_product_id AS chosen, above.key::{key_type} AS skipped,
                   (list.shown_at AT TIME ZONE 'UTC')::date AS day,
                   bit_or(set_bit(0::bit({VOTERS}), chosen.voter, 1)) AS voters
            FROM chosen
            JOIN {_EVENTS} list ON list.query_id = chosen.query_id AND list.kind = 'impression'
            CROSS JOIN LATERAL unnest(list.shown[: chosen.position - 1]) AS above (key)
            WHERE chosen.voter IS NOT NULL AND chosen.target_product_id <> list.product_id
                AND above.key::{key_type} NOT IN (list.product_id, chosen.target_product_id)
                AND NOT EXISTS (
                    SELECT FROM chosen other
                    WHERE other.query_id = chosen.query_id AND other.target_product_id = above.key::{key_type}
                )
            GROUP BY 1, 2, 3, 4
        )
        SELECT product, chosen, skipped,
               round(-{VOTERS} * ln(1 - least(bit_count(voters), {VOTERS - 1}) / {VOTERS}.0))::integer AS times,
               voters, 1 AS days, day
        FROM votes
    """  # noqa: S608


def add_day(day: date) -> None:
    """Add what a day's clicks prefer to the table: once for each day, in the transaction that closes it."""
    with database.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {Preference._meta.db_table} AS known "
            "(product_id, chosen_id, skipped_id, count, voters, days, last_day) "
            f"{_preferred(_key_type())} ORDER BY 1, 2, 3 "
            "ON CONFLICT (product_id, chosen_id, skipped_id) DO UPDATE "
            "SET count = known.count + excluded.count, voters = known.voters | excluded.voters, "
            "days = known.days + 1, last_day = greatest(known.last_day, excluded.last_day)",
            span(day, day),
        )
        # Nothing needs them any more, and nothing else that is stored says that two clicks may be of one client.
        cursor.execute(
            f"UPDATE {_EVENTS} SET voter = NULL "  # noqa: S608
            "WHERE shown_at >= %(begin)s AND shown_at < %(end)s AND voter IS NOT NULL",
            span(day, day),
        )


def preferences() -> Iterator[Votes]:
    """The votes of all closed days and of the raw events of the others, each triple of products once."""
    known: dict[tuple[Any, Any, Any], tuple[int, int, int]] = {}

    def add(triple: tuple[Any, Any, Any], times: int, voters: str, days: int) -> None:
        counted, bits, before = known.get(triple, (0, 0, 0))
        known[triple] = (counted + times, bits | int(voters, 2), before + days)

    columns = ("product_id", "chosen_id", "skipped_id", "count", "voters", "days")
    for *triple, times, voters, days in database.stream(Preference.objects.order_by().values_list(*columns), 5_000):
        add(tuple(triple), times, voters, days)
    closed = last_closed_day()
    first = date.min if closed is None else closed + timedelta(days=1)
    with database.cursor() as cursor:
        cursor.execute(_preferred(_key_type()), span(first, date.max - timedelta(days=2)))
        for *triple, times, voters, days, _day in cursor:
            add(tuple(triple), times, voters, days)
    for triple, (times, bits, days) in sorted(known.items(), key=lambda item: tuple(map(str, item[0]))):
        if bits:
            yield Votes(*triple, _clients(bits.bit_count(), times), days)


def _clients(taken: int, times: int) -> int:
    """How many clients there were, by how many numbers they took and how often one voted, each once a day."""
    if taken > _MOST_TAKEN:
        return times
    return min(times, round(-VOTERS * math.log1p(-taken / VOTERS)))


def _key_type() -> str:
    kind = Preference._meta.get_field("chosen_id").db_type(database.connection())
    assert kind is not None
    return kind
