"""How often look-alikes are clicked, by model version, surface and position. The current day counts as well."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db import connections, router
from django.db.models import Max

from ..models import DailyStatistic, EventDay, ModelVersion, Surface
from .intervals import wilson
from .sums import SUMS, span, today


@dataclass(frozen=True)
class ClickRate:
    """What one version's lists, or one position of them, came to on one surface.

    Attributes:
        version_id, version: key and name of the model version.
        surface: one of :class:`~shop_similarity.models.Surface`.
        position: 0 for whole lists, else 1 for the first product.
        impressions: lists shown, or lists that had this position.
        clicks: of them, those with a click (on this position).
        baskets: of them, those with an add-to-basket (on this position).
    """

    version_id: int
    version: str
    surface: str
    position: int
    impressions: int
    clicks: int
    baskets: int

    @property
    def rate(self) -> float:
        """Click-through rate, 0 to 1; 0 where nothing was shown."""
        return self.clicks / self.impressions if self.impressions else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval (Wilson), taking lists as independent, which those of one visitor are not quite."""
        return wilson(self.clicks, self.impressions)

    @property
    def basket_rate(self) -> float:
        """Share of the lists with an add-to-basket, 0 to 1."""
        return self.baskets / self.impressions if self.impressions else 0.0

    @property
    def surface_label(self) -> str:
        """The surface in the reader's language."""
        return str(Surface(self.surface).label)


def click_rates(days: int = 28) -> list[ClickRate]:
    """Click-through of whole lists over the last ``days`` days (UTC, today included), by version and surface.

    Newest version first, then by surface. Four statements, whatever there is.
    """
    return _rates(days, by_position=False)


def clicks_by_position(days: int = 28) -> list[ClickRate]:
    """The same for each position, by version, surface and position.

    A list's first product is clicked most because it is the first: compare positions across versions, not with each
    other.
    """
    return _rates(days, by_position=True)


def _rates(days: int, *, by_position: bool) -> list[ClickRate]:
    if days < 1:
        raise ValueError(f"days must be 1 or more, not {days!r}.")
    sums: dict[tuple, list[int]] = defaultdict(lambda: [0, 0, 0])
    for _day, version, surface, _experiment, position, *counts in daily_sums(today() - timedelta(days=days - 1)):
        if bool(position) == by_position:
            for place, count in enumerate(counts):
                sums[version, surface, position][place] += count
    names = dict(ModelVersion.objects.filter(pk__in={version for version, *_ in sums}).values_list("pk", "name"))
    # The version's own order, newest first.
    return [
        ClickRate(version, names[version], surface, position, *counts)
        for (version, surface, position), counts in sorted(
            sums.items(), key=lambda item: (-item[0][0], item[0][1], item[0][2])
        )
        if version in names
    ]


def daily_sums(first: date, experiment: int | None = None) -> list[tuple[Any, ...]]:
    """``(day, version, surface, experiment, position, impressions, clicks, baskets)`` from a day on, up to now.

    Closed days come from the roll-up, the others, today among them, are summed from raw events.

    Args:
        first: the first day.
        experiment: key of an experiment; only what was shown in it.
    """
    using = router.db_for_write(EventDay)
    closed = last_closed_day()
    fields = ("day", "version_id", "surface", "experiment_id", "position", "impressions", "clicks", "baskets")
    rows: list[tuple[Any, ...]] = []
    if closed is not None:
        rolled = DailyStatistic.objects.using(using).filter(day__gte=first, day__lte=closed).order_by()
        if experiment is not None:
            rolled = rolled.filter(experiment=experiment)
        rows += rolled.values_list(*fields)
        first = max(first, closed + timedelta(days=1))
    with connections[using].cursor() as cursor:
        cursor.execute(SUMS, span(first, today()))
        rows += (row for row in cursor.fetchall() if experiment is None or row[3] == experiment)
    return rows


def last_closed_day() -> date | None:
    """The last day whose sums are final; all days before it are closed as well."""
    using = router.db_for_write(EventDay)
    closed = EventDay.objects.using(using).filter(closed_at__isnull=False)
    return closed.aggregate(last=Max("day"))["last"]
