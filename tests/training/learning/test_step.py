"""One step on several batches is the step on one batch with all of their triplets, and categories are learned along."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from shop_similarity.training.learning.losses import correct
from shop_similarity.training.learning.sampling import Views, large_categories
from shop_similarity.training.learning.step import StepResult, of_one_category
from shop_similarity.training.networks.questions import Questions
from tests.training.small_run import PER_COLOUR, make_trainer, rows

SGD = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the cached features of all runs."""
    return tmp_path_factory.mktemp("step")


def moved(folder, parts: list[np.ndarray], **options) -> tuple[np.ndarray, StepResult]:
    """What a step on some batches, given as ``(B, 3)`` places of photos, does to the head."""
    trainer = make_trainer(folder, **SGD, learning_rate=3.0, **options)
    batches = [Views().batch(part, np.random.default_rng(0)) for part in parts]
    features = trainer._source.training(batches, 1, 0)
    start = trainer.split.trainable.get_weights()[0]
    result = trainer._step([trainer._inputs(batch, each) for batch, each in zip(batches, features, strict=True)])
    return trainer.split.trainable.get_weights()[0] - start, result


@pytest.mark.parametrize("options", [{"loss": "contrastive"}, {"loss": "triplet", "nonzero": True}])
def test_unequal_batches_count_by_their_terms(folder, options):
    triplets = rows(64, range(4), 1)[::3]
    whole, said = moved(folder, [triplets], **options)
    parts, told = moved(folder, [triplets[:3], triplets[3:4], triplets[4:]], **options)
    assert np.abs(whole).max() > 1e-3
    assert np.abs(parts - whole).max() < 1e-4 * np.abs(whole).max()
    assert told.loss == pytest.approx(said.loss, rel=1e-5)
    assert (told.triplets, told.correct) == (said.triplets, said.correct)


def test_a_batch_without_a_term_counts_for_nothing(folder):
    """Where all hinges are 0 there is nothing that a mean could be taken of."""
    options = {"loss": "triplet", "loss_options": {"margin": 1e-6}, "nonzero": True}
    triplets = rows(64, range(4), 1)
    embeddings = make_trainer(folder).embed(np.arange(24))
    right = correct(tf.constant(embeddings), triplets).numpy()
    assert 3 < right.sum() < len(right)
    alone, said = moved(folder, [triplets[~right]], **options)
    both, told = moved(folder, [triplets[right], triplets[~right]], **options)
    assert np.abs(both - alone).max() <= 1e-4 * np.abs(alone).max()
    assert told.loss == pytest.approx(said.loss, rel=1e-5)


def test_gradients_that_are_not_finite_are_told_and_not_passed_over(folder):
    trainer = make_trainer(folder, **SGD)
    batches = trainer._sampler.epoch(1)[:2]
    inputs = [
        trainer._inputs(batch, f) for batch, f in zip(batches, trainer._source.training(batches, 1, 0), strict=True)
    ]
    inner = trainer._step._gradients

    def spoilt(*arguments):
        loss, count, right, gradients = inner(*arguments)
        return loss, count, right, [gradient * np.inf for gradient in gradients]

    trainer._step._gradients = spoilt
    assert np.isnan(trainer._step(inputs).loss)


def test_pairs_of_one_category_and_of_different_ones():
    positive = np.zeros((5, 5), dtype=bool)
    positive[0, 1] = positive[1, 0] = True
    negative = np.ones((5, 5), dtype=bool)
    negative[2, 3] = negative[3, 2] = False
    same, others = of_one_category(tf.constant([4, 4, 4, 7, -1]), positive, negative)
    assert set(zip(*np.nonzero(same.numpy()), strict=True)) == {(0, 2), (2, 0), (1, 2), (2, 1)}
    assert set(zip(*np.nonzero(others.numpy()), strict=True)) == {(0, 3), (3, 0), (1, 3), (3, 1)}


def test_what_few_photos_share_is_no_category():
    assert large_categories(np.array([3] * 8 + [5] * 7)).tolist() == [3] * 8 + [-1] * 7


@pytest.mark.parametrize(("categories", "learns"), [([0, 1], True), ([0, 0], False), ([-1, 1], False)])
def test_photos_of_one_category_are_drawn_together(folder, categories, learns):
    """The colours 0 to 2 are one category and 3 to 5 another, or all are one, or nobody knows of half of them."""

    def cosine(weight):
        trainer = make_trainer(folder, **SGD, learning_rate=1.0, category_weight=weight)
        batch = Views().batch(rows(64, range(6), 1), np.random.default_rng(0))
        inputs = trainer._inputs(batch, next(trainer._source.training([batch], 1, 0)))
        numbers = np.repeat(categories, 18)[batch.photos].astype(np.int32)
        trainer._step([replace(inputs, categories=numbers)])
        one = trainer.embed(np.arange(18))
        return (one @ one.T).mean()

    assert (cosine(2.0) > cosine(0.0) + 1e-4) == learns


def test_another_colour_of_a_product_is_pulled_near_for_who_asks_for_the_product_alone(folder):
    config = {"embedding_dim": 1024, "colour": 0.2, "instance": 0.3}
    trainer = make_trainer(folder, config=config, **SGD, learning_rate=1.0)
    batch = Views().batch(rows(64, range(6), 1), np.random.default_rng(0))
    inputs = trainer._inputs(batch, next(trainer._source.training([batch], 1, 0)))
    # Two colours are one product, and nobody knows of a category.
    product = batch.photos // (2 * PER_COLOUR)
    same = product[:, None] == product
    instances = same & ~np.eye(len(product), dtype=bool)
    inputs = replace(inputs, instances=instances, negative=~same, categories=np.full(len(product), -1, np.int32))

    def cosines():
        parts = Questions.of(config).parts
        embeddings = Questions.of(config).in_parts(trainer.embed(np.arange(2 * PER_COLOUR)))
        found = [embeddings[:, part] / np.linalg.norm(embeddings[:, part], axis=1, keepdims=True) for part in parts]
        return [float((rows[:PER_COLOUR] @ rows[PER_COLOUR:].T).mean()) for rows in found]

    before = cosines()
    for _ in range(5):
        trainer._step([inputs])
    look, instance, _colours = np.subtract(cosines(), before)
    assert instance > 0.01 and look < instance / 2
