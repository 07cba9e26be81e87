"""The examples of the literature, to the digits that it prints, and others by hand."""

import pytest

from shop_similarity.feedback.inference import design_effect, division_probability, lists_needed, newcombe, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    assert wilson(trials - successes, trials) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize(
    ("one", "of_one", "two", "of_two", "low", "high"),
    [
        # Newcombe, "Interval estimation for the difference between independent proportions", 1998, table II, method 10.
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_newcombe(one, of_one, two, of_two, low, high):
    assert newcombe(one, of_one, two, of_two) == pytest.approx((low, high), abs=5e-5)
    assert newcombe(two, of_two, one, of_one) == pytest.approx((-high, -low), abs=5e-5)


def test_nothing_tried_says_nothing():
    assert wilson(0, 0) == (0, 1)
    assert newcombe(0, 0, 1, 2) == (-1, 1)


def test_sample_size_of_the_textbook():
    # Fleiss, Levin & Paik, "Statistical Methods for Rates and Proportions", without their continuity correction:
    # (1.95996 + 0.84162)^2 * (0.1 * 0.9 + 0.12 * 0.88) / 0.02^2 = 3838.1 in each arm.
    assert lists_needed(0.1, 0.02) == 7_677
    assert lists_needed(0.1, 0.02, design_effect=2) == 15_353
    # The smaller arm decides: with a tenth of the visitors it takes far more.
    assert lists_needed(0.1, 0.02, share=0.1) == 22_684
    for rate, difference in ((0, 0.1), (0.5, 0), (0.95, 0.1), (0.1, -0.2)):
        with pytest.raises(ValueError, match="can't be compared"):
            lists_needed(rate, difference)


def test_the_design_effect_by_hand():
    # Each of 40 groups has 10 lists; in half of them all were clicked, in half none: whole groups are what varies.
    # 40/39 * 40 * 25 / 400^2 = 0.00641 against 0.5 * 0.5 / 400 = 0.000625.
    assert design_effect([(10, 10), (10, 0)] * 20) == pytest.approx(400 / 39)
    # Lists that are more even than chance do not narrow the interval.
    assert design_effect([(10, 5)] * 40) == 1
    assert design_effect([(10, 5)] * 19) is None
    assert design_effect([(10, 0)] * 40) is None and design_effect([]) is None


def test_the_division_by_hand():
    treated = set(range(500))
    even = dict.fromkeys(range(400, 600), 10)
    # 100 buckets with lists on either side.
    assert division_probability(even, treated) == 1
    # 130 of 200: 1300 lists where 1000 are expected; sigma^2 = 500 * 0.5 * (200 * 100 - 1000 * 4) / 999 = 4004.0.
    uneven = dict.fromkeys(range(370, 570), 10)
    assert division_probability(uneven, treated) == pytest.approx(2 * 1.0639e-6, rel=1e-3)
    # One visitor who looked at a thousand lists is no mismatch, which a test of single lists would take it for.
    assert division_probability({**even, 3: 1000}, treated) > 0.3
    assert division_probability(dict.fromkeys(range(19), 5), treated) is None
