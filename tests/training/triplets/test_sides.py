import subprocess
import sys
from pathlib import Path

import pytest

from shop_similarity.training.triplets.sides import SALT, Sides, shares, side_of

KEYS = [str(number) for number in range(20_000)]


def test_the_side_follows_from_the_key_alone_for_ever():
    # Written down once: another rule or salt would give every product of every shop a new side.
    assert [key for key in map(str, range(60)) if side_of(key) == "validation"] == ["24", "54", "59"]
    assert SALT == "shop-similarity sides 1"
    script = (
        "from shop_similarity.training.triplets.sides import side_of; print(side_of('ä-7', .5), side_of('\\ud800'))"
    )
    root = Path(__file__).parents[3]
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root).stdout
    said = said.split()
    assert said == [side_of("ä-7", 0.5), side_of("\ud800")]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
def test_so_many_are_set_aside(share):
    count = sum(side_of(key, share) == "validation" for key in KEYS)
    assert abs(count / len(KEYS) - share) < 4 * (share / len(KEYS)) ** 0.5


def test_a_larger_share_keeps_what_a_smaller_one_sets_aside():
    aside = [{key for key in KEYS[:2_000] if side_of(key, share) == "validation"} for share in (0.05, 0.1, 0.5)]
    assert aside[0] < aside[1] < aside[2]


@pytest.mark.parametrize("share", [0, 1, -0.1, 2, float("nan")])
def test_other_shares_are_refused(share):
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        side_of("a", share)


def test_rules_that_keep_products_apart():
    now = Sides(0.1, "shop.Product")
    assert now.keep_apart(now) and now.keep_apart(Sides(0.2, "shop.Product"))
    for earlier in (
        Sides(0.05, "shop.Product"),
        Sides(0.1, "table"),
        Sides(0.1, "shop.Product by parent"),
        Sides(0.1, "shop.Product", salt="another"),
    ):
        assert not now.keep_apart(earlier)


def test_a_record_is_read_back():
    sides = Sides(0.3, "shop.Product")
    assert Sides.from_dict(sides.to_dict()) == sides
    for wrong in ({}, {**sides.to_dict(), "share": "much"}, None):
        with pytest.raises(ValueError, match="no record of a split"):
            Sides.from_dict(wrong)


def test_shares_of_a_small_shop():
    assert shares(0.1) == [0.1, 0.2, 0.4, 0.5] and shares(0.5) == [0.5]
