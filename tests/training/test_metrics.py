import numpy as np
import pytest

from training.metrics import bootstrap_interval, rank

# Three queries against four photos. Rankings: q0 -> 2, 0, 3, 1; q1 -> 1, 0, 2, 3; q2 -> 3, 2, 1, 0.
SIMILARITIES = np.array([[0.8, 0.1, 0.9, 0.5], [0.7, 0.9, 0.3, 0.1], [0.1, 0.2, 0.3, 0.4]])
RELEVANT = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)


def test_recall_and_average_precision_by_hand():
    result = rank(SIMILARITIES, RELEVANT)
    # q0 hits at ranks 2 and 3: (1/2 + 2/3) / 2. q1 at rank 1. q2 has nothing to find and does not count.
    assert result.average_precisions() == pytest.approx([7 / 12, 1])
    assert result.mean_average_precision == pytest.approx(19 / 24)
    assert result.recall_at(1) == 0.5
    assert result.recall_at(2) == 1.0


def test_what_is_left_out_is_neither_found_nor_missed():
    itself = np.zeros_like(RELEVANT)
    itself[0, 0] = itself[1, 0] = True
    result = rank(SIMILARITIES, RELEVANT, itself)
    # q0 without photo 0: 2, 3, 1; its one hit stands second. q1 keeps its hit at rank 1.
    assert result.average_precisions() == pytest.approx([1 / 2, 1])
    assert result.relevant.tolist() == [1, 1]


def test_a_query_whose_only_hit_is_left_out_does_not_count():
    itself = np.zeros_like(RELEVANT)
    itself[1, 1] = True
    assert rank(SIMILARITIES, RELEVANT, itself).average_precisions() == pytest.approx([7 / 12])


def test_ties_keep_the_order_of_the_gallery():
    result = rank(np.zeros((1, 3)), np.array([[False, True, True]]))
    assert result.hits.tolist() == [[False, True, True]]


def test_nothing_to_find_is_an_error():
    with pytest.raises(ValueError, match="relevant"):
        rank(SIMILARITIES, np.zeros_like(RELEVANT))
    with pytest.raises(ValueError, match="shape"):
        rank(SIMILARITIES, RELEVANT[:, :2])


def test_bootstrap_interval_holds_the_mean_and_narrows_with_more_queries():
    few = np.tile([0.0, 1.0], 10)
    many = np.tile([0.0, 1.0], 1000)
    low, high = bootstrap_interval(few)
    assert low < 0.5 < high
    assert high - low > 5 * np.subtract(*bootstrap_interval(many)[::-1])
    assert bootstrap_interval(few) == bootstrap_interval(few)
