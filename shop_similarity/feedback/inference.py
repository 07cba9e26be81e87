"""Intervals of rates and of differences between rates."""

from __future__ import annotations

import math
from statistics import NormalDist

CONFIDENCE = 0.95


def z_of(confidence: float = CONFIDENCE) -> float:
    """The quantile of the normal distribution that a two-sided interval takes: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(successes: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a rate (Wilson, "Probable inference", JASA 1927); 0 to 1 where nothing was tried.

    Unlike the textbook's interval it stays within 0 and 1 and says something where nobody clicked yet.
    """
    if trials <= 0:
        return 0.0, 1.0
    z = z_of(confidence)
    rate = successes / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # Exact at the ends, where the sum leaves a rounding error.
    return (0.0 if successes <= 0 else middle - half), (1.0 if successes >= trials else middle + half)


def newcombe(
    successes: float, trials: float, other_successes: float, other_trials: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The interval of the difference ``successes / trials - other_successes / other_trials``, -1 to 1.

    Method 10 of Newcombe, "Interval estimation for the difference between independent proportions", Statistics in
    Medicine 1998: made of both rates' Wilson intervals.
    """
    if trials <= 0 or other_trials <= 0:
        return -1.0, 1.0
    one, two = successes / trials, other_successes / other_trials
    low, high = wilson(successes, trials, confidence)
    other_low, other_high = wilson(other_successes, other_trials, confidence)
    difference = one - two
    return (
        difference - math.hypot(one - low, other_high - two),
        difference + math.hypot(high - one, two - other_low),
    )
