"""Losses and miners against the same formulas written with loops over numpy."""

import math

import numpy as np
import pytest
import tensorflow as tf

from shop_similarity.training.learning.losses import LOSSES, correct, make_loss
from shop_similarity.training.learning.miners import hard, semi_hard

COUNT = 7
ROWS = np.array([[0, 1, 2], [1, 0, 5], [3, 4, 0], [2, 6, 4]], dtype=np.int32)


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(COUNT, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    positive = np.zeros((COUNT, COUNT), dtype=bool)
    for one, other in ((0, 1), (3, 4), (2, 6), (0, 6)):
        positive[one, other] = positive[other, one] = True
    negative = ~positive & ~np.eye(COUNT, dtype=bool)
    # 5 has no positive; 1 and 6 know nothing of each other.
    negative[1, 6] = negative[6, 1] = False
    return vectors.astype(np.float32), positive, negative


def distances(vectors, rows=ROWS):
    query, near, far = (vectors[rows[:, column]].astype(np.float64) for column in range(3))
    return (
        np.linalg.norm(query - near, axis=1),
        np.linalg.norm(query - far, axis=1),
        np.linalg.norm(near - far, axis=1),
    )


def value(name, batch, **options):
    vectors, positive, negative = batch
    return float(make_loss(name, **options)(tf.constant(vectors), ROWS, positive, negative))


def test_contrastive_is_the_article_s(batch):
    near, far, _ = distances(batch[0])
    expected = (np.sum(near**2) + np.sum(np.maximum(0, 1 - far) ** 2)) / (2 * len(ROWS))
    assert value("contrastive", batch) == pytest.approx(expected, rel=1e-5)


def test_losses_over_triplets(batch):
    near, far, between = distances(batch[0])
    hinge = np.maximum(0, 0.3 + near - far)
    assert value("triplet", batch, margin=0.3) == pytest.approx(hinge.mean(), rel=1e-5)
    squared = np.maximum(0, 0.3 + near**2 - far**2)
    assert value("triplet-squared", batch, margin=0.3) == pytest.approx(squared.mean(), rel=1e-5)
    both = hinge + np.maximum(0, 0.3 + near - between)
    assert value("triplet-both", batch, margin=0.3) == pytest.approx(both.mean(), rel=1e-5)
    margins = np.maximum(0, near - 0.27) + np.maximum(0, 1.6 - far)
    assert value("contrastive-margins", batch, negative_margin=1.6) == pytest.approx(margins.mean(), rel=1e-5)


def test_a_hinge_is_taken_of_each_triplet_and_not_of_the_mean(batch):
    near, far, _ = distances(batch[0])
    assert (near - far).min() < 0 < (near - far).max()
    assert value("triplet", batch, margin=1e-6) > max(0.0, (near - far).mean()) + 1e-3


def test_the_average_may_leave_zeros_out(batch):
    near, far, _ = distances(batch[0])
    hinge = np.maximum(0, 0.1 + near - far)
    assert 0 < (hinge > 0).sum() < len(hinge)
    assert value("triplet", batch, nonzero=True) == pytest.approx(hinge[hinge > 0].mean(), rel=1e-5)


def test_angular(batch):
    vectors = batch[0].astype(np.float64)
    slope = math.tan(math.radians(36)) ** 2
    expected = []
    for query, near, far in ROWS:
        centre = (vectors[query] + vectors[near]) / 2
        apart = ((vectors[query] - vectors[near]) ** 2).sum()
        expected.append(max(0, apart - 4 * slope * ((vectors[far] - centre) ** 2).sum()))
    assert value("angular", batch, angle=36) == pytest.approx(np.mean(expected), rel=1e-4)
    assert max(expected) > 0


def test_softmax_over_the_batch(batch):
    vectors, positive, negative = batch
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64) / 0.2
    supcon, infonce = [], []
    for anchor in range(COUNT):
        mine, others = np.flatnonzero(positive[anchor]), np.flatnonzero(negative[anchor])
        if not len(mine):
            continue
        everything = np.exp(cosines[anchor][np.concatenate([mine, others])]).sum()
        supcon.append(np.mean([-math.log(math.exp(cosines[anchor, p]) / everything) for p in mine]))
        against = np.exp(cosines[anchor, others]).sum()
        infonce.append(
            np.mean([-math.log(math.exp(cosines[anchor, p]) / (math.exp(cosines[anchor, p]) + against)) for p in mine])
        )
    assert len(supcon) == 6
    assert value("supcon", batch, temperature=0.2) == pytest.approx(np.mean(supcon), rel=1e-4)
    assert value("infonce", batch, temperature=0.2) == pytest.approx(np.mean(infonce), rel=1e-4)


def test_multi_similarity(batch):
    vectors, positive, negative = batch
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    expected = []
    for anchor in range(COUNT):
        mine, others = cosines[anchor][positive[anchor]], cosines[anchor][negative[anchor]]
        if not len(mine):
            continue
        near, far = mine[mine - 0.1 < others.max()], others[others + 0.1 > mine.min()]
        pull = math.log(1 + np.exp(-2 * (near - 0.5)).sum()) / 2
        push = math.log(1 + np.exp(40 * (far - 0.5)).sum()) / 40
        expected.append(pull + push)
    assert value("multi-similarity", batch, beta=40) == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("miner", [None, semi_hard, hard])
def test_gradients_are_finite_where_photos_coincide(name, miner):
    vectors = np.zeros((4, 5), dtype=np.float32)
    vectors[:, 0] = 1
    vectors[3] = [0, 1, 0, 0, 0]
    positive = np.zeros((4, 4), dtype=bool)
    positive[0, 1] = positive[1, 0] = True
    negative = ~positive & ~np.eye(4, dtype=bool)
    weights = tf.Variable(vectors)
    rows = np.array([[0, 1, 2], [1, 0, 3]], dtype=np.int32)
    with tf.GradientTape() as tape:
        embeddings = tf.math.l2_normalize(weights, axis=1)
        chosen = miner(embeddings, positive, negative) if miner else rows
        loss = make_loss(name)(embeddings, chosen, positive, negative)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, weights).numpy()).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_batch_without_positives_or_negatives_costs_nothing(name, batch):
    nothing = np.zeros((COUNT, COUNT), dtype=bool)
    rows = np.zeros((0, 3), dtype=np.int32)
    for positive, negative in ((nothing, batch[2]), (batch[1], nothing)):
        assert float(make_loss(name)(tf.constant(batch[0]), rows, positive, negative)) == 0


def test_accuracy_counts_strictly_farther_negatives():
    vectors = np.eye(3, dtype=np.float32)
    # Both are equally far: that is no success.
    assert correct(tf.constant(vectors), np.array([[0, 1, 2]])).numpy().tolist() == [False]
    near = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    rows = np.array([[0, 1, 2], [0, 2, 1], [0, 1, 1]])
    assert correct(tf.constant(near), rows).numpy().tolist() == [True, False, False]


def test_negative_coordinates_count():
    vectors = np.array([[1, 0], [-1, 0], [-0.6, 0.8]], dtype=np.float32)
    assert correct(tf.constant(vectors), np.array([[1, 2, 0]])).numpy().tolist() == [True]


def test_wrong_options_are_told():
    with pytest.raises(ValueError, match=r"no loss 'hinge'.*supcon"):
        make_loss("hinge")
    with pytest.raises(ValueError, match=r"triplet has no option temperature.*margin"):
        make_loss("triplet", temperature=0.1)
    with pytest.raises(ValueError, match="above 0"):
        make_loss("supcon", temperature=0)
    with pytest.raises(ValueError, match="below 90"):
        make_loss("angular", angle=90)


def test_semi_hard_takes_the_nearest_beyond_the_positive(batch):
    vectors, positive, negative = batch
    squares = ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
    rows = semi_hard(tf.constant(vectors), positive, negative).numpy()
    pairs = [pair for pair in np.argwhere(positive).tolist() if negative[pair].all(axis=0).any()]
    assert {tuple(row[:2]) for row in rows.tolist()} == {tuple(pair) for pair in pairs}
    inside = 0
    for anchor, near, far in rows:
        # What may not be pushed away from the positive, such as another photo of its product, is no negative beside it.
        allowed = np.flatnonzero(negative[anchor] & negative[near])
        beyond = allowed[squares[anchor, allowed] > squares[anchor, near]]
        if len(beyond):
            assert far == beyond[squares[anchor, beyond].argmin()]
        else:
            inside += 1
            assert far == allowed[squares[anchor, allowed].argmax()]
    assert inside < len(rows)


def test_semi_hard_falls_back_on_the_farthest_negative():
    vectors = np.array([[1, 0], [-1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    positive = np.zeros((4, 4), dtype=bool)
    positive[0, 1] = True
    negative = np.zeros((4, 4), dtype=bool)
    negative[:2, 2:] = True
    assert semi_hard(tf.constant(vectors), positive, negative).numpy().tolist() == [[0, 1, 3]]


def test_hard_takes_the_farthest_positive_and_the_nearest_negative(batch):
    vectors, positive, negative = batch
    squares = ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
    rows = hard(tf.constant(vectors), positive, negative).numpy()
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4, 6]
    for anchor, far, near in rows:
        mine, others = np.flatnonzero(positive[anchor]), np.flatnonzero(negative[anchor] & negative[far])
        assert far == mine[squares[anchor, mine].argmax()]
        assert near == others[squares[anchor, others].argmin()]
