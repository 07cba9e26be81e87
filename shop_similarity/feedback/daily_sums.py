"""Sums of raw events by day, version, surface, experiment and position, computed in the database."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from ..models import Event

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


def span(first: date, last: date) -> dict[str, datetime]:
    """The parameters of :data:`SUMS` for the days from ``first`` to ``last``."""
    return {
        "begin": datetime.combine(first, time(), UTC),
        "end": datetime.combine(last + timedelta(days=1), time(), UTC),
    }
