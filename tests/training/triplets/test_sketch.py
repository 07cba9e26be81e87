import json

import pytest

from shop_similarity.training.triplets.sketch import SIZE, Sketch


def values(start, stop):
    return [f"{number:064x}" for number in range(start, stop)]


def test_small_sets_are_known_as_a_whole():
    sketch = Sketch.of(values(0, SIZE))
    assert sketch.found(values(0, 100) + values(SIZE, SIZE + 50)) == (100, 150)
    assert Sketch().found(values(0, 100)) == (0, 100)


def test_of_a_large_set_a_fair_sample_is_known():
    sketch = Sketch.of(values(0, 20_000))
    found, known = sketch.found(values(19_000, 21_000))
    assert 25 < known < 85 and abs(found / known - 0.5) < 0.25
    assert sketch.found(values(20_000, 40_000))[0] == 0
    assert len(json.dumps(sketch.to_dict())) < 2_850


def test_a_union_is_the_sketch_of_all_values():
    one, other = values(0, 3_000), values(2_000, 9_000)
    assert Sketch.of(one) | Sketch.of(other) == Sketch.of(one + other)
    assert Sketch.of(one[:10]) | Sketch.of(other) == Sketch.of(one[:10] + other)
    assert Sketch() | Sketch.of(one) == Sketch.of(one)


def test_a_record_is_read_back():
    for sketch in (Sketch(), Sketch.of(values(0, 7)), Sketch.of(values(0, 2_000))):
        assert Sketch.from_dict(json.loads(json.dumps(sketch.to_dict()))) == sketch
    for wrong in ({}, {"words": "?", "limit": 5}, {"words": "AAA=", "limit": 5}, {"words": 5, "limit": 5}, None, []):
        with pytest.raises(ValueError, match="no record"):
            Sketch.from_dict(wrong)
