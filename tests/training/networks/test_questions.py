"""Two questions in one vector: parts that can be read off, weighed by who asks."""

import hashlib

import numpy as np
import pytest

from shop_similarity.training.networks.questions import Questions

CONFIG = {"colour": 0.15, "instance": 0.25, "embedding_dim": 1024, "search": [0.1, 0.7, 0.2]}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embeddings(questions, count, seed):
    """Stored embeddings, and their parts of length 1."""
    generator = np.random.default_rng(seed)
    parts = [unit(generator.standard_normal((count, part.stop - part.start))) for part in questions.parts]
    rows = np.concatenate([np.sqrt(share) * part for share, part in zip(questions.stored, parts, strict=True)], axis=1)
    return questions.lift(rows.astype(np.float32)), parts


def test_most_versions_answer_one():
    assert Questions.of({}) is Questions.of({"colour": 0.07}) is Questions.of(CONFIG | {"instance": 0.0}) is None


@pytest.mark.parametrize("length", [1024, 2048, 4096])
def test_parts_can_be_read_off_an_embedding_and_cosines_stay(length):
    questions = Questions.of(CONFIG | {"embedding_dim": length})
    assert questions.parts[2].stop <= length
    rows = np.random.default_rng(1).standard_normal((7, questions.parts[2].stop))
    lifted = questions.lift(rows)
    assert lifted.shape == (7, length)
    assert np.allclose(questions.in_parts(lifted)[:, : rows.shape[1]], rows)
    assert np.allclose(lifted @ lifted.T, rows @ rows.T)
    # A single number is spread over all coordinates, so that the signs say something of it.
    (spread,) = questions.lift(np.eye(1, 9, 3))
    assert np.abs(spread).max() < 6 / np.sqrt(length) and np.abs(np.sign(spread).sum()) < 6 * np.sqrt(length)


def test_who_asks_decides_what_the_cosine_means():
    questions = Questions.of(CONFIG)
    stored, parts = embeddings(questions, 20, 2)
    own, own_parts = embeddings(questions, 5, 3)
    cosines = [mine @ theirs.T for mine, theirs in zip(own_parts, parts, strict=True)]
    assert questions.stored == pytest.approx((0.6, 0.25, 0.15))
    assert np.allclose(own @ stored.T, np.tensordot(questions.stored, cosines, 1), atol=1e-5)
    asked = questions.asked_by_photo(own)
    assert np.allclose(asked @ stored.T, np.tensordot(questions.search, cosines, 1), atol=1e-5)
    # A photo's similarity to itself is 1, though its cosine with what is stored of it is less.
    assert np.allclose((asked * own).sum(axis=1), 1, atol=1e-5)
    assert np.linalg.norm(asked, axis=1).min() > 1.1
    assert np.array_equal(questions.asked_by_photo(own[1]), asked[1])


def test_the_network_and_numpy_divide_parts_alike():
    from shop_similarity.training.networks.architectures.parts import UnitParts

    questions = Questions.of(CONFIG)
    rows = np.random.default_rng(5).standard_normal((4, 1024)).astype(np.float32)
    vectors = questions.divided(rows, rows)
    lengths = [np.square(questions.in_parts(vectors)[:, part]).sum(axis=1) for part in questions.parts]
    assert np.allclose(np.array(lengths).T, questions.stored, atol=1e-4)
    layer = UnitParts(1024, questions.stored)
    assert np.allclose(layer(rows), vectors, atol=1e-5) and not layer.weights
    again = UnitParts.from_config(layer.get_config())
    assert np.allclose(again(rows), vectors, atol=1e-5)


def test_the_map_is_the_same_for_ever():
    questions = Questions.of({"colour": 0.15, "instance": 0.15})
    # All of them are multiples of 1/4096, in float32 too.
    lifted = (4096 * questions.lift(np.eye(3, dtype=np.float32))).astype("<i2")
    found = hashlib.sha256(lifted.tobytes()).hexdigest()
    assert found == "9d004ccf7befa518aca68e2354af65472ccf16c65ce3f7844d6a1ddefc3b7b76"
