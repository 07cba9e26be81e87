"""How often look-alikes are clicked, by model version, surface and position. The current day counts as well."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from ..models import ModelVersion, Surface
from .daily_sums import daily_sums, today, totals
from .inference import wilson


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
    rows = (row for row in daily_sums(today() - timedelta(days=days - 1)) if bool(row.position) == by_position)
    sums = totals(rows, key=lambda row: (row.version_id, row.surface, row.position))
    names = dict(ModelVersion.objects.filter(pk__in={version for version, *_ in sums}).values_list("pk", "name"))
    # The version's own order, newest first.
    return [
        ClickRate(version, names[version], surface, position, *sums[version, surface, position])
        for version, surface, position in sorted(sums, key=lambda key: (-key[0], *key[1:]))
        if version in names
    ]
