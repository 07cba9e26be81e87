import threading
import time

import pytest

from shop_similarity.training.threads import ordered_map


def test_results_come_in_the_order_of_the_items_whichever_is_ready_first():
    barrier = threading.Barrier(2, timeout=30)

    def slow_first(number):
        if number < 2:
            # Both are called before either is done.
            barrier.wait()
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(ordered_map(slow_first, range(50), threads=3)) == [number**2 for number in range(50)]
    assert list(ordered_map(str, [])) == []


def test_no_more_is_begun_than_may_be_ahead():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = ordered_map(lambda number: number, items(), threads=2, ahead=5)
    assert next(results) == 0
    assert len(taken) == 5
    assert next(results) == 1
    assert len(taken) == 6
    results.close()
    assert len(taken) == 6


def test_an_exception_comes_in_its_place_and_what_has_not_begun_is_dropped():
    calls = []

    def fails(number):
        calls.append(number)
        if number == 3:
            raise OSError("the disk is gone")
        return number

    results = ordered_map(fails, range(1000), threads=1, ahead=8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="disk is gone"):
        next(results)
    assert len(calls) <= 12
