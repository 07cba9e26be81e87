"""Whether a series of samples grows, as a statement with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trend:
    """Growth an hour of what was sampled, in its own unit.

    Attributes:
        level: median of the samples.
        slope, low, high: by Theil and Sen, with its 95 % interval.
        tolerance: growth an hour that is nothing.
        climbed: whether the lowest of the last quarter is above the highest of the first by more than the tolerance,
            which one thread or connection that is made late does not do.
    """

    level: float
    slope: float
    low: float
    high: float
    tolerance: float
    climbed: bool = False

    @property
    def verdict(self) -> str:
        """``flat``: the interval is below the tolerance. ``grows``: it is above it, or the slope is and the samples
        climbed, since resampled blocks seldom show the few steps of a count. Else ``undecided``.
        """
        if self.high < self.tolerance:
            return "flat"
        climbs = self.climbed and self.slope > self.tolerance
        return "grows" if climbs or self.low > self.tolerance else "undecided"


def theil_sen(times: np.ndarray, values: np.ndarray) -> float:
    """Median of the slopes between all two samples, (n,) and (n,) finite; Sen 1968. NaN where all times are one."""
    one, other = np.triu_indices(len(times), 1)
    apart = times[other] - times[one]
    between = apart != 0
    if not between.any():
        return float("nan")
    return float(np.median((values[other] - values[one])[between] / apart[between]))


def trend(hours: np.ndarray, values: np.ndarray, tolerance: float, *, draws: int = 1_000, seed: int = 0) -> Trend:
    """The trend of samples, (n,) hours and (n,) values of which those that are not finite are left out.

    The interval is that of a bootstrap over moving blocks of neighbours of about the root of n, for samples ten seconds
    apart are not independent. Fewer than eight samples tell nothing: the interval is the whole line.
    """
    known = np.isfinite(values)
    hours, values = hours[known], values[known]
    n = len(values)
    level = float(np.median(values)) if n else float("nan")
    if n < 8:
        return Trend(level, float("nan"), -np.inf, np.inf, tolerance)
    length = max(2, round(np.sqrt(n)))
    dice = np.random.default_rng(seed)
    slopes = []
    for _draw in range(draws):
        starts = dice.integers(n - length + 1, size=-(-n // length))
        chosen = (starts[:, None] + np.arange(length)).ravel()[:n]
        slopes.append(theil_sen(hours[chosen], values[chosen]))
    low, high = np.nanpercentile(slopes, (2.5, 97.5))
    quarter = n // 4
    climbed = bool(values[-quarter:].min() - values[:quarter].max() > tolerance)
    return Trend(level, theil_sen(hours, values), float(low), float(high), tolerance, climbed)
