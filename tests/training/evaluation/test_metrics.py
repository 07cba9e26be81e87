import numpy as np
import pytest

from shop_similarity.training.evaluation.metrics import (
    correct_triplets,
    estimate_difference,
    estimate_mean,
    rank,
    triplet_accuracy,
    validation_block,
)

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


def test_an_interval_holds_the_mean_and_narrows_with_more_queries():
    few = np.tile([0.0, 1.0], 10)
    many = np.tile([0.0, 1.0], 1000)
    low, high = estimate_mean(few).interval
    assert low < 0.5 < high
    assert high - low > 5 * np.subtract(*estimate_mean(many).interval[::-1])
    assert estimate_mean(few) == estimate_mean(few)


GRADED = np.array([[1, 0, 0, 2], [0, 2, 1, 0], [1, 0, 0, 0]])


def test_map_at_r_by_hand():
    result = rank(SIMILARITIES, GRADED)
    # R = 2, 2, 1. q0: of its first two (2, 0) the second is a hit: (1/2) / 2. q1: 1 hits, 0 does not: (1/1) / 2.
    # q2: its first one (3) is no hit.
    assert result.average_precisions_at_r() == pytest.approx([1 / 4, 1 / 2, 0])
    assert result.average_precisions_at_r().mean() == pytest.approx(1 / 4)


def test_ndcg_by_hand():
    result = rank(SIMILARITIES, GRADED)
    second, third = 1 / np.log2(3), 1 / np.log2(4)
    # q0 finds grades 0, 1, 2 where 2, 1 would be best; q1 finds 2, 0, 1; q2 finds its one partial hit at rank 4.
    assert result.ndcgs_at(10) == pytest.approx(
        [(second + 3 * third) / (3 + second), (3 + third) / (3 + second), 1 / np.log2(5)]
    )
    assert result.ndcgs_at(2) == pytest.approx([second / (3 + second), 3 / (3 + second), 0])


def test_min_relevance_decides_what_a_hit_is_and_which_queries_count():
    result = rank(SIMILARITIES, GRADED, min_relevance=2)
    assert result.queries.tolist() == [0, 1]
    assert result.average_precisions() == pytest.approx([1 / 3, 1])
    # nDCG goes on to take partial hits into account.
    assert result.ndcgs_at(10) == pytest.approx(rank(SIMILARITIES, GRADED).ndcgs_at(10)[:2])


def test_what_is_left_out_gives_no_gain():
    itself = np.zeros(GRADED.shape, dtype=bool)
    itself[0, 3] = itself[1, 2] = itself[2, 0] = True
    result = rank(SIMILARITIES, GRADED, itself)
    assert result.queries.tolist() == [0, 1]
    assert result.ndcgs_at(10) == pytest.approx([1 / np.log2(3), 1])


def by_brute_force(similarities, grades, leave_out, min_relevance):
    """The definitions, one query and one rank at a time."""
    found = []
    for query in range(len(similarities)):
        candidates = [photo for photo in range(similarities.shape[1]) if not leave_out[query, photo]]
        candidates.sort(key=lambda photo: -similarities[query, photo])
        ranked = [int(grades[query, photo]) for photo in candidates]
        wanted = sum(grade >= min_relevance for grade in ranked)
        if not wanted:
            continue
        precisions = {}
        for position, grade in enumerate(ranked, start=1):
            if grade >= min_relevance:
                precisions[position] = sum(other >= min_relevance for other in ranked[:position]) / position
        gain = sum((2**grade - 1) / np.log2(1 + position) for position, grade in enumerate(ranked[:10], start=1))
        best = sum(
            (2**grade - 1) / np.log2(1 + position)
            for position, grade in enumerate(sorted(ranked, reverse=True)[:10], start=1)
        )
        found.append(
            (
                float(min(precisions) <= 5),
                sum(precisions.values()) / wanted,
                sum(value for position, value in precisions.items() if position <= wanted) / wanted,
                gain / best,
            )
        )
    return np.array(found)


@pytest.mark.parametrize("min_relevance", [1, 2])
def test_every_ranking_metric_agrees_with_its_definition(min_relevance):
    random = np.random.default_rng(min_relevance)
    similarities = random.standard_normal((60, 40))
    grades = random.choice(3, size=(60, 40), p=[0.96, 0.03, 0.01])
    leave_out = random.random((60, 40)) < 0.05
    result = rank(similarities, grades, leave_out, min_relevance)
    expected = by_brute_force(similarities, grades, leave_out, min_relevance)
    assert len(expected) == len(result.queries) < 60
    assert result.recalled_at(5) == pytest.approx(expected[:, 0])
    assert result.average_precisions() == pytest.approx(expected[:, 1])
    assert result.average_precisions_at_r() == pytest.approx(expected[:, 2])
    assert result.ndcgs_at(10) == pytest.approx(expected[:, 3])


def test_a_similarity_that_is_no_number_is_an_error():
    with pytest.raises(ValueError, match="not a number"):
        rank(np.where(SIMILARITIES == 0.9, np.nan, SIMILARITIES), RELEVANT)


def test_triplet_accuracy_is_strict():
    embeddings = np.array([[0, 0], [1, 0], [0, 2], [0, -1]], dtype=np.float32)
    rows = np.array([[0, 1, 2], [0, 2, 1], [0, 1, 3]])
    # The last negative is exactly as far away as the positive.
    assert correct_triplets(embeddings, rows).tolist() == [True, False, False]
    assert triplet_accuracy(embeddings, rows) == pytest.approx(1 / 3)
    assert triplet_accuracy(np.ones((4, 8), np.float16), rows) == 0
    with pytest.raises(ValueError, match="no triplet"):
        triplet_accuracy(embeddings, np.zeros((0, 3), dtype=int))


def test_distances_are_told_apart_that_single_precision_confuses():
    embeddings = np.array([[0.0], [1.0], [1.0 + 2**-23]], dtype=np.float32)
    assert correct_triplets(embeddings, np.array([[0, 1, 2], [0, 2, 1]])).tolist() == [True, False]


def test_many_triplets_are_taken_in_parts():
    random = np.random.default_rng(0)
    embeddings, rows = random.standard_normal((50, 6)), random.integers(0, 50, (2500, 3))
    near = np.linalg.norm(embeddings[rows[:, 0]] - embeddings[rows[:, 1]], axis=1)
    far = np.linalg.norm(embeddings[rows[:, 0]] - embeddings[rows[:, 2]], axis=1)
    assert (correct_triplets(embeddings, rows) == (far > near)).all()


def test_the_validation_block_draws_without_repetition_and_is_seeded():
    correct = np.zeros(200, dtype=bool)
    correct[:150] = True
    block = validation_block(correct)
    assert (len(block.accuracies), block.size) == (5, 128)
    # 150 of 200 are right, so of 128 different ones at least 78 and at most all are.
    assert all(78 / 128 <= accuracy <= 1 for accuracy in block.accuracies)
    assert block.mean == pytest.approx(np.mean(block.accuracies))
    assert block.spread == pytest.approx(np.std(block.accuracies, ddof=1)) and block.spread > 0
    assert validation_block(correct) == block != validation_block(correct, seed=1)
    few = validation_block(correct[140:160])
    assert few.size == 20 and few.mean == 0.5 and few.spread == 0
    with pytest.raises(ValueError, match="no triplet"):
        validation_block(correct[:0])


def test_an_estimate_without_groups_is_the_bootstrap_over_values():
    values = np.random.default_rng(0).random(50)
    estimate = estimate_mean(values)
    assert estimate.value == pytest.approx(values.mean())
    generator = np.random.default_rng(0)
    drawn = [values[generator.integers(0, 50, 50)].mean() for _ in range(2000)]
    assert estimate.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_groups_widen_the_interval_of_values_that_go_together():
    # Ten groups of a hundred equal values: ten observations, not a thousand.
    values, groups = np.repeat([0.0, 1.0] * 5, 100), np.repeat(list("abcdefghij"), 100)
    alone, together = estimate_mean(values), estimate_mean(values, groups)
    assert alone.value == together.value == 0.5
    assert together.high - together.low > 5 * (alone.high - alone.low)
    assert together.interval == pytest.approx(estimate_mean(values[::100]).interval)


def test_groups_of_different_size_keep_their_weight():
    assert estimate_mean([1, 1, 1, 0], [7, 7, 7, 8]).value == 0.75
    assert estimate_mean([1, 1, 1, 0], [7, 7, 7, 8]).interval == (0, 1)


def test_a_paired_difference_sees_what_two_intervals_hide():
    hardness = np.random.default_rng(0).random(80)
    worse, better = hardness * 0.9, hardness * 0.9 + 0.05
    difference = estimate_difference(better, worse)
    assert difference.value == pytest.approx(0.05)
    assert difference.interval == pytest.approx((0.05, 0.05))
    assert estimate_mean(better).low < estimate_mean(worse).high
    with pytest.raises(ValueError, match="same queries"):
        estimate_difference(better, worse[1:])
    with pytest.raises(ValueError, match="nothing"):
        estimate_difference([], [])
