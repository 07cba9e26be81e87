import numpy as np
import pytest

from shop_similarity.intervals import Estimate, GroupSums, estimate_difference, estimate_mean


@pytest.fixture
def values():
    """Two models' values of 300 queries that come from 60 groups."""
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 60, 300)
    hardness = generator.random(60)[groups]
    return hardness + 0.1 * generator.random(300), hardness + 0.1 * generator.random(300), groups


def test_sums_by_group_say_all_that_an_interval_needs(values):
    ours, theirs, groups = values
    first, second = GroupSums.of(ours, groups), GroupSums.of(theirs, groups)
    assert first.groups == 60 and first.counts.sum() == 300
    assert first.estimate() == estimate_mean(ours, groups)
    paired, expected = (first - second).estimate(), estimate_difference(ours, theirs, groups)
    assert (paired.value, *paired.interval) == pytest.approx((expected.value, *expected.interval))


def test_what_was_not_measured_is_left_out(values):
    ours, _theirs, groups = values
    holes = np.where(groups < 20, np.nan, ours)
    found = GroupSums.of(holes, groups)
    assert found.groups == 40 and len(found.counts) == 60
    assert found.estimate() == estimate_mean(ours[groups >= 20], groups[groups >= 20])
    for nothing in ([], [np.nan, np.nan]):
        with pytest.raises(ValueError, match="nothing to average"):
            GroupSums.of(np.array(nothing))


def test_many_groups_are_put_together_the_same_way_each_time(values):
    ours, theirs, groups = values
    few, again = GroupSums.of(ours, groups, most=25), GroupSums.of(theirs, groups, most=25)
    assert few.groups == 25 and few.counts.tolist() == again.counts.tolist()
    assert few.estimate().value == pytest.approx(ours.mean())
    # Whole groups: each of the 60 lies in one of the 25.
    assert all(few.counts[place] in _sums_of(np.bincount(groups), few.counts[place]) for place in range(25))
    # Groups that are drawn together are still independent of the others, so the interval keeps its width.
    whole = GroupSums.of(ours, groups).estimate()
    width = few.estimate().high - few.estimate().low
    assert 0.6 < width / (whole.high - whole.low) < 1.7


def _sums_of(sizes: np.ndarray, total: float) -> set[float]:
    reachable = {0.0}
    for size in sizes:
        reachable |= {known + size for known in reachable if known + size <= total}
    return reachable


def test_sums_of_other_queries_are_not_compared(values):
    ours, theirs, groups = values
    with pytest.raises(ValueError, match="same queries"):
        GroupSums.of(ours, groups) - GroupSums.of(theirs[1:], groups[1:])


@pytest.mark.parametrize("groups", [3, 6, 12, 19])
def test_widened_intervals_of_few_groups_hold_the_mean_as_often_as_they_say(groups):
    dice = np.random.default_rng(groups)
    plain = wide = 0
    for _trial in range(300):
        found = estimate_mean(dice.normal(size=groups), draws=300)
        plain += found.low <= 0 <= found.high
        found = found.widened(groups)
        wide += found.low <= 0 <= found.high
    assert plain < wide and 0.91 < wide / 300 < 0.99
    assert Estimate(0.5, 0.5, 0.5).widened(1).interval == (-np.inf, np.inf)
