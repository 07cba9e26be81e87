"""Sums of events by day, version, surface, experiment and position: rolled up, or computed of raw events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from django.db.models import Max

from .. import database
from ..models import DailyStatistic, Event, EventDay


class DailySum(NamedTuple):
    """What one position of the lists of a day came to; position 0 stands for whole lists."""

    day: date
    version_id: int
    surface: str
    experiment_id: int | None
    position: int
    impressions: int
    clicks: int
    baskets: int


# Impressions are counted by the length of their list and spread over positions afterwards, and who chose a product
# brings the impression along, so no list has to be looked up for its clicks.
SUMS = f"""
    WITH lists AS (
        SELECT (shown_at AT TIME ZONE 'UTC')::date AS day, version_id, surface, experiment_id,
               cardinality(shown) AS length, count(*) AS lists
        FROM {Event._meta.db_table}
        WHERE kind = 'impression' AND shown_at >= %(begin)s AND shown_at < %(end)s
        GROUP BY 1, 2, 3, 4, 5
    ), shown AS (
        SELECT day, version_id, surface, experiment_id, position, sum(lists)::bigint AS impressions
        FROM lists CROSS JOIN LATERAL generate_series(0, length) AS position
        GROUP BY 1, 2, 3, 4, 5
    ), chosen AS (
        SELECT (shown_at AT TIME ZONE 'UTC')::date AS day, version_id, surface, experiment_id,
               CASE WHEN grouping(position) = 1 THEN 0 ELSE position END AS position,
               count(DISTINCT query_id) FILTER (WHERE kind = 'click') AS clicks,
               count(DISTINCT query_id) FILTER (WHERE kind = 'basket') AS baskets
        FROM {Event._meta.db_table}
        WHERE kind <> 'impression' AND shown_at >= %(begin)s AND shown_at < %(end)s
        GROUP BY GROUPING SETS ((1, 2, 3, 4, position), (1, 2, 3, 4))
    )
    SELECT shown.day, shown.version_id, shown.surface, shown.experiment_id, shown.position, shown.impressions,
           coalesce(chosen.clicks, 0) AS clicks, coalesce(chosen.baskets, 0) AS baskets
    FROM shown LEFT JOIN chosen
        ON chosen.day = shown.day AND chosen.version_id = shown.version_id AND chosen.surface = shown.surface
        AND chosen.experiment_id IS NOT DISTINCT FROM shown.experiment_id AND chosen.position = shown.position
"""  # noqa: S608


def today() -> date:
    """The day by which events are summed: UTC, whatever the shop's time zone."""
    return datetime.now(UTC).date()


def start_of(day: date) -> datetime:
    """The moment at which a day begins."""
    return datetime.combine(day, time(), UTC)


def span(first: date, last: date) -> dict[str, datetime]:
    """The parameters of :data:`SUMS` for the days from ``first`` to ``last``."""
    return {"begin": start_of(first), "end": start_of(last + timedelta(days=1))}


def daily_sums(first: date, experiment: int | None = None) -> list[DailySum]:
    """The sums from a day on, up to now.

    Closed days come from the roll-up, the others, today among them, are summed from raw events.

    Args:
        first: the first day.
        experiment: key of an experiment; only what was shown in it.
    """
    using = database.write_alias()
    closed = last_closed_day()
    rows: list[DailySum] = []
    if closed is not None:
        statistics = DailyStatistic.objects.using(using).filter(day__gte=first, day__lte=closed).order_by()
        if experiment is not None:
            statistics = statistics.filter(experiment=experiment)
        rows += map(DailySum._make, statistics.values_list(*DailySum._fields))
        first = max(first, closed + timedelta(days=1))
    with database.cursor(using) as cursor:
        cursor.execute(SUMS, span(first, today()))
        open_days = map(DailySum._make, cursor.fetchall())
        rows += (row for row in open_days if experiment is None or row.experiment_id == experiment)
    return rows


def totals(rows: Iterable[DailySum], key: Callable[[DailySum], Any]) -> dict[Any, list[int]]:
    """Impressions, clicks and baskets of all rows with the same key; zeros for a key that no row has."""
    sums: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        counts = (row.impressions, row.clicks, row.baskets)
        sums[key(row)] = [total + count for total, count in zip(sums[key(row)], counts, strict=True)]
    return sums


def last_closed_day() -> date | None:
    """The last day whose sums are final; all days before it are closed as well."""
    using = database.write_alias()
    closed = EventDay.objects.using(using).filter(closed_at__isnull=False)
    return closed.aggregate(last=Max("day"))["last"]
