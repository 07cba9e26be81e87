"""Means and paired differences of what was measured, with intervals that know what belongs together.

Values of one group (queries that look for the same photos, triplets of one product) are not independent, and an
interval that took them so would be too narrow. So whole groups are drawn with replacement, the cluster bootstrap (Field
and Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical Society B 69, 2007). With few groups even
these intervals are too narrow (Cameron, Gelbach and Miller, "Bootstrap-based improvements for inference with clustered
errors", Review of Economics and Statistics 90, 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST_GROUPS = 20
"""With fewer groups than this, an interval says little about how sure one can be."""

MOST_GROUPS = 500
"""So many groups are kept of a measurement; where there are more, several are drawn as one."""

_NUMBERS_AT_ONCE = 1 << 18

# Quantiles of 0.975: of the normal distribution, and of Student's t where the series below is too far off.
_NORMAL = 1.959964
_STUDENT = {1: 12.7062, 2: 4.3027}


@dataclass(frozen=True)
class Estimate:
    """A mean and its percentile interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high

    def within(self, least: float, most: float) -> Estimate:
        """The interval cut to the values that are possible."""
        return Estimate(self.value, max(self.low, least), min(self.high, most))

    def widened(self, groups: int) -> Estimate:
        """A 95 % interval of a bootstrap over few groups, made as wide as it should be.

        Its ends move away from the mean by ``sqrt(G / (G - 1))`` and by what Student's t with G - 1 degrees of freedom
        is wider than the normal distribution (Cameron and Miller, "A practitioner's guide to cluster-robust inference",
        Journal of Human Resources 50, 2015, section VI). One group alone tells nothing: all is possible.
        """
        if groups < 2:
            return Estimate(self.value, -np.inf, np.inf)
        factor = float(np.sqrt(groups / (groups - 1))) * _student(groups - 1) / _NORMAL
        return Estimate(
            self.value, self.value + factor * (self.low - self.value), self.value + factor * (self.high - self.value)
        )


@dataclass(frozen=True, eq=False)
class GroupSums:
    """The values of one measurement, summed by group: all that an interval needs to know of them.

    Attributes:
        sums: ``(g,)`` of each group's values.
        counts: ``(g,)`` of values in each group, 0 for a group that has none here.
    """

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, groups: np.ndarray | None = None, most: int | None = None) -> GroupSums:
        """Sum up.

        Args:
            values: ``(m,)``; what is not a number was not measured and is left out.
            groups: ``(m,)`` label of the group that each value belongs to. By default every value is its own.
            most: so many groups at most; whole ones are put together at random, the same ones for the same labels.

        Raises:
            ValueError: if there is no value.
        """
        values = np.asarray(values, dtype=np.float64)
        members = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
        number = int(members.max(initial=-1)) + 1
        if most is not None and number > most:
            members = (np.random.default_rng(0).permutation(number) % most)[members]
            number = most
        known = ~np.isnan(values)
        if not known.any():
            raise ValueError("There is nothing to average.")
        sums = np.bincount(members[known], weights=values[known], minlength=number)
        return cls(sums, np.bincount(members[known], minlength=number).astype(np.float64))

    @property
    def groups(self) -> int:
        """How many groups have a value."""
        return int(np.count_nonzero(self.counts))

    def __sub__(self, other: GroupSums) -> GroupSums:
        """Two models' values for the same queries, as differences query by query.

        Raises:
            ValueError: if they are not of the same queries.
        """
        if not np.array_equal(self.counts, other.counts):
            raise ValueError("The two models must have been measured on the same queries.")
        return GroupSums(self.sums - other.sums, self.counts)

    def estimate(self, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Estimate:
        """The mean of all values, and its interval over groups drawn with replacement."""
        known = self.counts > 0
        sums, counts = self.sums[known], self.counts[known]
        generator = np.random.default_rng(seed)
        at_once = max(1, _NUMBERS_AT_ONCE // len(sums))
        drawn: list[float] = []
        for start in range(0, draws, at_once):
            chosen = generator.integers(0, len(sums), (min(at_once, draws - start), len(sums)))
            drawn.extend(sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1))
        tail = (1 - level) / 2
        return Estimate(float(sums.sum() / counts.sum()), *np.quantile(drawn, [tail, 1 - tail]).tolist())


def _student(freedom: int) -> float:
    """The 0.975 quantile of Student's t, by its expansion (Abramowitz and Stegun, 26.7.5); off by .02 at most."""
    z = _NORMAL
    series = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return _STUDENT.get(freedom) or sum(term / freedom**power for power, term in enumerate(series))


def estimate_mean(
    values: np.ndarray,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean of values and its interval, by drawing whole groups with replacement.

    Args:
        values: ``(m,)``; what is not a number was not measured and is left out.
        groups: ``(m,)`` label of the group that each value belongs to; values of one group are drawn together. By
            default every value is a group of its own.
        level: of the interval.
        draws: of the bootstrap.
        seed: of the draws; the same gives the same interval.

    Raises:
        ValueError: if there is no value.
    """
    return GroupSums.of(values, groups).estimate(level, draws, seed)


def estimate_difference(
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean of ``first - second``, two models' values for the same queries, with the paired bootstrap's interval.

    Queries that are hard for both models widen neither interval: this tells models apart that overlap when each is
    looked at by itself.

    Raises:
        ValueError: if they are not for the same number of queries, or for none.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError("The two models must have been measured on the same queries.")
    return estimate_mean(first - second, groups, level, draws, seed)
