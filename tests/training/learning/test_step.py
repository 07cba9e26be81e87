"""One step on several batches is the step on one batch with all of their triplets."""

import numpy as np
import pytest
import tensorflow as tf

from shop_similarity.training.learning.losses import correct
from shop_similarity.training.learning.sampling import Views
from shop_similarity.training.learning.step import StepResult
from tests.training.small_run import make_trainer, rows

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
