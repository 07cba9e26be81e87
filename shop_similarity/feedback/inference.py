"""Statistics of click-through rates: intervals, the variance of lists that belong together, the size of a sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from statistics import NormalDist

from .visitors import BUCKETS

CONFIDENCE = 0.95
POWER = 0.8
# With fewer groups of visitors the spread between them is not known well enough.
MIN_BUCKETS = 20
# What only so small a part of all groups of clients does, a handful of clients can have forged.
LOUDEST = 0.02


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


def design_effect(groups: Sequence[tuple[int, int]]) -> float | None:
    """By how much the variance of a click-through rate exceeds that of independent lists, at least 1.

    Args:
        groups: (lists, lists with a click) of each group of visitors.

    Returns:
        None for fewer than 20 groups, or where nobody or everybody clicked.
    """
    lists, clicked = (sum(column) for column in zip(*groups, strict=True)) if groups else (0, 0)
    if len(groups) < MIN_BUCKETS or not 0 < clicked < lists:
        return None
    rate = clicked / lists
    count = len(groups)
    spread = sum((with_click - rate * shown) ** 2 for shown, with_click in groups)
    variance = count / (count - 1) * spread / lists**2
    return max(1.0, variance / (rate * (1 - rate) / lists))


def loudest(arms: Sequence[Mapping[int, tuple[int, int]]], share: float = LOUDEST) -> frozenset[int]:
    """The groups with the most lists in all arms together, a ``share`` of all groups and at least one.

    By lists, which a version does not change, and not by clicks, which it is measured by: to leave them out favours no
    arm.

    Args:
        arms: of each, (lists, lists with a click) of each group.
    """
    lists = Counter[int]()
    for arm in arms:
        lists.update({group: shown for group, (shown, _clicked) in arm.items()})
    return frozenset(group for group, _shown in lists.most_common(max(1, math.ceil(share * len(lists)))))


def division_probability(lists: Mapping[int, int], treated: Collection[int]) -> float | None:
    """How probable it is that a random choice of as many buckets divides the lists at least as unevenly (two-sided).

    A test for a sample ratio mismatch that lets a visitor have many lists: what is random is which buckets are treated,
    so the treatment's number of lists is a sum drawn without replacement from those of all buckets.

    Args:
        lists: of each bucket; buckets without any may be left out.
        treated: the treatment's buckets.

    Returns:
        None where there are too few buckets with lists to tell.
    """
    if len(lists) < MIN_BUCKETS:
        return None
    share = len(treated) / BUCKETS
    mean = sum(lists.values()) / BUCKETS
    squares = sum(count * count for count in lists.values()) - BUCKETS * mean * mean
    deviation = math.sqrt(len(treated) * (1 - share) * squares / (BUCKETS - 1))
    if not deviation:
        return 1.0
    treatment = sum(count for bucket, count in lists.items() if bucket in treated)
    return 2 * NormalDist().cdf(-abs(treatment - len(treated) * mean) / deviation)


def lists_needed(rate: float, difference: float, share: float = 0.5, design_effect: float = 1.0) -> int:
    """Lists of both arms together with which a difference is seen with 80 % probability, at 95 % confidence.

    Args:
        rate: the control's click-through rate, above 0 and below 1.
        difference: of the treatment's rate; not 0.
        share: of the treatment.
        design_effect: see :func:`design_effect`.

    Raises:
        ValueError: a rate or difference with which there is nothing to see.
    """
    other = rate + difference
    if not 0 < rate < 1 or not difference or not 0 <= other <= 1:
        raise ValueError(f"Rates of {rate!r} and {other!r} can't be compared.")
    quantiles = z_of() + NormalDist().inv_cdf(POWER)
    variance = rate * (1 - rate) / (1 - share) + other * (1 - other) / share
    return math.ceil(design_effect * quantiles**2 * variance / difference**2)
