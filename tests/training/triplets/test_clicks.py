from pathlib import Path

import pytest

from shop_similarity.training.triplets.clicks import click_triplets
from shop_similarity.training.triplets.table import TripletError

SHOWN = ["a", "b", "c", "d"]


def named(triplets):
    return [tuple(triplets.images[place] for place in row) for row in triplets.rows]


def test_what_was_clicked_beats_what_was_skipped_above_it():
    triplets = click_triplets([("q", SHOWN, "c")] * 3, Path("/photos"))
    # Nothing on "d": it may never have been seen.
    assert named(triplets) == [("q", "c", "a"), ("q", "c", "b")]
    assert set(triplets.positive_type) == {"clicked"} and set(triplets.negative_type) == {"skipped"}
    assert triplets.notices == ("2 triplets from 3 clicks, 3 of which had a skipped product above them.",)


def test_a_click_on_the_first_says_nothing():
    with pytest.raises(TripletError, match="The 100 recorded clicks give no triplet: 0 were"):
        click_triplets([("q", SHOWN, "a")] * 100, Path("/photos"))


def test_few_clicks_say_nothing():
    clicks = [("q", SHOWN, "b")] * 2
    with pytest.raises(TripletError, match=r"2 were on a product with others skipped above .*Record more clicks"):
        click_triplets(clicks, Path("/photos"))
    assert named(click_triplets(clicks, Path("/photos"), min_clicks=2)) == [("q", "b", "a")]


def test_contradictions_cancel():
    ahead, behind = ("q", ["a", "b"], "b"), ("q", ["b", "a"], "a")
    with pytest.raises(TripletError):
        click_triplets([ahead] * 5 + [behind] * 4, Path("/photos"))
    assert named(click_triplets([ahead] * 9 + [behind] * 3, Path("/photos"))) == [("q", "b", "a")]
    assert named(click_triplets([ahead] * 3 + [behind] * 9, Path("/photos"))) == [("q", "a", "b")]


def test_preferences_belong_to_their_query():
    with pytest.raises(TripletError):
        click_triplets([(query, SHOWN, "b") for query in "xyz"], Path("/photos"))


def test_odd_records_are_passed_over():
    odd = [("q", SHOWN, "z"), ("q", [], "a"), ("b", SHOWN, "b")] * 3
    good = [("q", ["q", "a", "a", "b", "b"], "b")] * 3
    triplets = click_triplets(odd + good, Path("/photos"))
    assert named(triplets) == [("q", "b", "a")]


def test_the_order_of_the_records_does_not_matter():
    clicks = [("q", SHOWN, "c"), ("p", SHOWN, "d")] * 3
    one, other = (click_triplets(records, Path("/photos")) for records in (clicks, clicks[::-1]))
    assert named(one) == named(other) and one.images == other.images


def test_limits_out_of_range_are_refused():
    for limits in ({"min_clicks": 0}, {"min_share": 0.5}, {"min_share": 1.1}):
        with pytest.raises(ValueError, match=next(iter(limits))):
            click_triplets([], Path("/photos"), **limits)
