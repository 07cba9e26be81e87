"""The training loop: it learns, repeats itself, survives kill -9 and Ctrl-C, and keeps its best epoch."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.learning import checkpoints
from shop_similarity.training.learning.loop import TrainingInterrupted, Watcher
from shop_similarity.training.learning.options import SamplingOptions, TrainingOptions
from shop_similarity.training.learning.validation import Search
from tests.training.small_run import Announcer, figures, history_of, make_trainer

DROPOUT = {"config": {"hidden": [24], "dropout": 0.3, "frozen_through": "block4_pool"}}


@pytest.fixture(scope="module", autouse=True)
def repeatable():
    tf.config.experimental.enable_op_determinism()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of a run with the default options, from its start to its end."""
    return make_trainer(tmp_path_factory.mktemp("whole")).fit()


@pytest.fixture(scope="module")
def whole_with_dropout(tmp_path_factory):
    return make_trainer(tmp_path_factory.mktemp("whole-with-dropout"), **DROPOUT).fit()


def run_process(folder, options, expect=0):
    process = subprocess.run(
        [sys.executable, "-m", "tests.training.small_run", str(folder), json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.returncode == expect, process.stderr[-3000:]
    return process.stdout


def test_it_learns_colours_that_it_has_not_seen(tmp_path):
    result = make_trainer(tmp_path, epochs=6, retrieval=True).fit()
    first, start, last = result.history[1], result.history[0], result.history[-1]
    assert last["loss"] < 0.8 * first["loss"]
    assert last["val_loss"] < start["val_loss"]
    assert last["val_accuracy"] > start["val_accuracy"]
    assert last["recall_at_1"] >= start["recall_at_1"]
    assert result.best_epoch > 0
    assert history_of(tmp_path) == result.history


@pytest.mark.long
def test_the_same_seed_gives_the_same_history(tmp_path, whole_with_dropout):
    second = make_trainer(tmp_path / "two", **DROPOUT).fit()
    assert figures(second.history) == figures(whole_with_dropout.history)
    other = make_trainer(tmp_path / "three", seed=8, **DROPOUT).fit()
    assert figures(other.history) != figures(second.history)


@pytest.mark.long
def test_kill_9_in_the_middle_of_an_epoch_changes_nothing(tmp_path):
    options = {**DROPOUT, "average": 0.9, "blend": 0.9}
    whole = make_trainer(tmp_path / "whole", **options).fit()
    folder = tmp_path / "killed"
    # Eight steps an epoch: in the second epoch and in the third.
    for kill_at in (11, 18):
        run_process(folder, {**options, "kill_at": kill_at}, expect=-signal.SIGKILL)
        assert len(history_of(folder)) == 1 + (kill_at - 1) // 8
    said = run_process(folder, options)
    # The step of the kill had no checkpoint yet.
    assert said.splitlines()[0] == "step 18"
    assert figures(history_of(folder)) == figures(whole.history)
    assert [record["epoch"] for record in history_of(folder)] == [0, 1, 2, 3]


@pytest.mark.long
@pytest.mark.slow
def test_without_checkpoints_within_an_epoch_the_epoch_is_begun_again(tmp_path):
    options = {**DROPOUT, "checkpoint_seconds": 3600}
    whole = make_trainer(tmp_path / "whole", **options).fit()
    run_process(tmp_path / "killed", {**options, "kill_at": 13}, expect=-signal.SIGKILL)
    watcher = Announcer()
    result = make_trainer(tmp_path / "killed", watcher=watcher, **options).fit(resume=True)
    assert watcher.steps == list(range(9, 25))
    assert figures(result.history) == figures(whole.history)


@pytest.mark.parametrize(
    "stop_at", [pytest.param(12, marks=pytest.mark.long), 16, pytest.param(24, marks=pytest.mark.long)]
)
def test_ctrl_c_leaves_a_state_to_go_on_from(tmp_path, stop_at, whole_with_dropout):
    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(tmp_path / "stopped", watcher=Announcer(stop_at=stop_at), checkpoint_seconds=3600, **DROPOUT)
    where = {12: "epoch 2 after 4", 16: "epoch 2 after 8", 24: "epoch 3 after 8"}[stop_at]
    with pytest.raises(TrainingInterrupted, match=rf"{where} of 8 steps.*--resume"):
        trainer.fit()
    assert signal.getsignal(signal.SIGINT) is before
    watcher = Announcer()
    result = make_trainer(tmp_path / "stopped", watcher=watcher, **DROPOUT).fit(resume=True)
    assert watcher.steps == list(range(stop_at + 1, 25))
    assert figures(result.history) == figures(whole_with_dropout.history)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = make_trainer(tmp_path).fit()
    watcher = Announcer()
    again = make_trainer(tmp_path, watcher=watcher)
    result = again.fit(resume=True)
    assert watcher.steps == []
    assert result.history == first.history


@pytest.mark.long
def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole):
    with pytest.raises(TrainingInterrupted):
        make_trainer(tmp_path / "run", watcher=Announcer(stop_at=20)).fit()
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    content = bytearray((newest / "arrays.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (newest / "arrays.npz").write_bytes(content)
    result = make_trainer(tmp_path / "run").fit(resume=True)
    assert figures(result.history) == figures(whole.history)


def test_the_best_epoch_is_kept_and_patience_ends_the_run(tmp_path):
    # A rate so large that the start is never reached again.
    result = make_trainer(tmp_path, epochs=9, learning_rate=3.0, optimizer="sgd", patience=2, monitor="val_loss").fit()
    assert result.stopped_early
    assert len(result.history) - 1 == result.best_epoch + 2
    losses = [record["val_loss"] for record in result.history]
    assert result.best_epoch == int(np.argmin(losses))


def test_the_model_has_the_weights_of_its_best_epoch(tmp_path):
    trainer = make_trainer(tmp_path, epochs=4, retrieval=True, monitor="val_loss")
    result = trainer.fit()
    best = result.history[result.best_epoch]
    assert trainer._evaluate()["val_loss"] == pytest.approx(best["val_loss"], rel=1e-5)


def test_cached_features_train_as_photos_do(tmp_path, whole):
    plain = make_trainer(tmp_path / "plain", cached=False).fit()
    for one, other in zip(figures(whole.history), figures(plain.history), strict=True):
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.long
@pytest.mark.slow
def test_cached_maps_train_nearly_as_photos_do(tmp_path):
    # They are kept in half precision.
    config = {"config": {"frozen_through": "block4_pool"}, "learning_rate": 1e-4}
    cached = make_trainer(tmp_path / "cached-4", **config).fit()
    plain = make_trainer(tmp_path / "plain-4", cached=False, **config).fit()
    for one, other in zip(cached.history, plain.history, strict=True):
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=0.01)


def test_gradients_of_several_batches_make_one_step(tmp_path):
    trainer = make_trainer(tmp_path / "two", accumulate=2, epochs=1, optimizer="sgd", momentum=0.0, schedule="constant")
    watcher = Announcer()
    trainer._watcher = watcher
    trainer.fit()
    assert watcher.steps == [1, 2, 3, 4]
    # Both batches' gradients from one point, each by how many photos its loss is the mean of, worked out by hand.
    # A rate beside which the rounding of the weights is nothing.
    plain = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant", "learning_rate": 3.0}
    parts = [make_trainer(tmp_path / name, **plain) for name in "abc"]
    batches = [parts[0]._sampler.epoch(1)[place] for place in (0, 1)]
    moved = []
    for trainer, chosen in zip(parts, ([0], [1], [0, 1]), strict=True):
        start = trainer.split.trainable.get_weights()[0]
        features = [next(trainer._source.training([batches[place]], 1, 0)) for place in chosen]
        trainer._step([trainer._inputs(batches[place], f) for place, f in zip(chosen, features, strict=True)])
        moved.append(trainer.split.trainable.get_weights()[0] - start)
    masks = [parts[0]._relations.masks(batch.photos) for batch in batches]
    one, other = (np.sum(positive.any(axis=1) & negative.any(axis=1)) for positive, negative in masks)
    assert np.abs(moved[2]).max() > 1e-2
    expected = (one * moved[0] + other * moved[1]) / (one + other)
    assert np.abs(moved[2] - expected).max() < 1e-5 * np.abs(moved[2]).max()


def test_the_best_epoch_is_the_best_by_look_alikes_where_there_are_some(tmp_path):
    trainer = make_trainer(tmp_path)
    record = {"val_accuracy": 0.5, "val_loss": 1.0, "look_alike_ndcg_at_10": 0.9}
    assert trainer._value(record) == [0.5, -1.0]
    places = np.arange(2)
    found = Search(places, places, np.zeros((2, 2), dtype=np.int8), np.eye(2, dtype=bool))
    trainer._validation = replace(trainer._validation, look_alike=found)
    assert trainer._value(record) == [0.9, -1.0]


def test_the_backbone_may_learn_more_slowly(tmp_path):
    def change(rate):
        trainer = make_trainer(
            tmp_path / f"rate-{rate}",
            epochs=1,
            backbone_rate=rate,
            config={"frozen_through": "block4_pool"},
            schedule="constant",
        )
        variables = trainer.split.trainable.trainable_variables
        before = [variable.numpy() for variable in variables]
        batch = trainer._sampler.epoch(1)[0]
        trainer._step([trainer._inputs(batch, next(trainer._source.training([batch], 1, 0)))])
        return {v.path: np.abs(v.numpy() - b).max() for v, b in zip(variables, before, strict=True)}

    whole, tenth, still = change(1.0), change(0.1), change(0.0)
    for path in whole:
        if "conv" in path:
            assert tenth[path] == pytest.approx(whole[path] / 10, rel=1e-2)
            assert still[path] == 0
        else:
            assert tenth[path] == pytest.approx(whole[path], rel=1e-5)


def test_a_blend_is_what_is_measured_and_kept(tmp_path):
    trainer = make_trainer(tmp_path, epochs=2, blend=0.25, monitor="val_loss")
    start = trainer.split.trainable.get_weights()
    kept = []

    class Spy(Watcher):
        def epoch_ends(self, record, best):
            kept.append((trainer.split.trainable.get_weights(), best))

    trainer._watcher = Spy()
    trainer.fit()
    trained = [weights for weights, best in kept if best][-1]
    for blended, end, begin in zip(trainer.split.trainable.get_weights(), trained, start, strict=True):
        assert np.allclose(blended, 0.25 * end + 0.75 * begin, atol=1e-6)


def test_the_average_of_the_weights_lags_behind_them(tmp_path):
    trainer = make_trainer(tmp_path, epochs=1, average=0.5, optimizer="sgd", schedule="constant")
    expected = trainer.split.trainable.get_weights()[0]
    for batch in trainer._sampler.epoch(1)[:3]:
        trainer._step([trainer._inputs(batch, next(trainer._source.training([batch], 1, 0)))])
        expected = 0.5 * expected + 0.5 * trainer.split.trainable.get_weights()[0]
    assert np.allclose(trainer._step._averages[0].numpy(), expected, atol=1e-6)


def test_a_loss_that_is_no_number_stops_the_run_with_a_sentence(tmp_path):
    trainer = make_trainer(tmp_path)

    class Spoiler(Watcher):
        def step(self, epoch, number, result, learning_rate):
            if number == 11:
                variable = trainer.split.trainable.trainable_variables[0]
                variable.assign(variable * np.nan)

    trainer._watcher = Spoiler()
    with pytest.raises(TrainingError, match=r"no number any more in epoch 2, step 4.*--learning-rate"):
        trainer.fit()
    # What was good is still there.
    assert checkpoints.latest(tmp_path / "checkpoints") is not None
    assert [record["epoch"] for record in history_of(tmp_path)] == [0, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_diverge_in_the_last_step_of_an_epoch_are_never_kept(tmp_path, value):
    trainer = make_trainer(tmp_path)

    class Spoiler(Watcher):
        def step(self, epoch, number, result, learning_rate):
            if number == 8:
                variable = trainer.split.trainable.trainable_variables[0]
                variable.assign(variable * value)

    trainer._watcher = Spoiler()
    with pytest.raises(TrainingError, match=r"is no number any more in epoch 1, step 9.*--learning-rate"):
        trainer.fit()
    assert [record["epoch"] for record in history_of(tmp_path)] == [0]
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        assert checkpoints.not_finite(checkpoints.load(checkpoint).arrays) == []
    # What it was best with so far is whole as well.
    trainer.model.load_weights(tmp_path / "best.weights.h5")
    assert all(np.isfinite(weights).all() for weights in trainer.model.get_weights())


def test_embeddings_that_overflow_while_it_is_validated_stop_the_run_with_a_sentence(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, retrieval=True)
    inner = trainer.embed
    for factor in (np.nan, 0):
        monkeypatch.setattr(trainer, "embed", lambda photos, progress=None, by=factor: inner(photos, progress) * by)
        with pytest.raises(TrainingError, match=r"val_loss is no number before any training: .*--fine-tune.*--weights"):
            trainer.fit()


def test_damaged_and_compressed_checkpoints_are_passed_over(tmp_path):
    with pytest.raises(TrainingInterrupted):
        make_trainer(tmp_path, watcher=Announcer(stop_at=3)).fit()
    folder = tmp_path / "checkpoints"
    whole = checkpoints.latest(folder)
    spoilt = dict(whole.arrays)
    name = next(name for name, array in spoilt.items() if array.dtype.kind == "f" and array.size)
    spoilt[name] = np.full_like(spoilt[name], np.nan)
    checkpoints.save(folder, "epoch-007", spoilt, whole.state)
    with pytest.raises(checkpoints.CheckpointError, match=f"{name} holds numbers that are not finite"):
        checkpoints.load(folder / "epoch-007")
    checkpoints.save(folder, "epoch-008", whole.arrays, whole.state)
    np.savez_compressed(folder / "epoch-008" / "arrays.npz", bomb=np.zeros(10_000_000))
    with pytest.raises(checkpoints.CheckpointError, match="compressed"):
        checkpoints.load(folder / "epoch-008")
    assert checkpoints.latest(folder).path == whole.path


def test_another_model_s_checkpoint_is_refused(tmp_path):
    with pytest.raises(TrainingInterrupted):
        make_trainer(tmp_path, watcher=Announcer(stop_at=3)).fit()
    with pytest.raises(TrainingError, match="does not fit this run"):
        make_trainer(tmp_path, average=0.9).fit(resume=True)


@pytest.mark.parametrize(
    ("schedule", "options", "expected"),
    [
        ("constant", {}, [3e-3, 3e-3, 3e-3]),
        ("step", {"step_epochs": 1, "step_factor": 0.5}, [3e-3, 1.5e-3, 7.5e-4]),
    ],
)
def test_schedules(tmp_path, schedule, options, expected):
    result = make_trainer(tmp_path, schedule=schedule, **options).fit()
    assert [record["learning_rate"] for record in result.history[1:]] == pytest.approx(expected)


def test_a_cosine_rises_and_falls(tmp_path):
    rates = []

    class Spy(Watcher):
        def step(self, epoch, number, result, learning_rate):
            rates.append(learning_rate)

    make_trainer(tmp_path, watcher=Spy(), warmup=0.25).fit()
    assert rates[0] == pytest.approx(0, abs=1e-9)
    assert max(rates) == pytest.approx(3e-3, rel=1e-3)
    assert np.argmax(rates) == 6
    assert rates[-1] < 1e-4


@pytest.mark.parametrize("miner", [pytest.param("semi-hard", marks=pytest.mark.long), "hard"])
def test_miners_train_losses_over_triplets(tmp_path, miner):
    result = make_trainer(tmp_path, loss="triplet", miner=miner, epochs=4, monitor="val_loss").fit()
    assert result.history[-1]["val_loss"] < result.history[0]["val_loss"]
    with pytest.raises(ValueError, match="takes no miner"):
        make_trainer(tmp_path, miner=miner)


@pytest.mark.long
@pytest.mark.slow
def test_mixed_precision_trains(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        result = make_trainer(tmp_path / "b", epochs=4, config={"frozen_through": "block4_pool"}).fit()
        assert result.history[-1]["loss"] < result.history[1]["loss"]
        keras.config.set_dtype_policy("mixed_float16")
        trainer = make_trainer(tmp_path / "f", epochs=4, config={"frozen_through": "block4_pool"})
        trainer._step._scale = 2.0**24
        result = trainer.fit()
        assert result.history[-1]["loss"] < result.history[1]["loss"]
        # A scale that overflows is halved until it does not.
        assert 1 < trainer._step._scale < 2.0**24
    finally:
        keras.config.set_dtype_policy("float32")


def test_options_that_make_no_sense_are_told():
    for options, match in (
        ({"optimizer": "lion"}, "optimizer must be one of"),
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"blend": 2.0}, "blend must be 0 to 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"average": 1.0}, "below 1"),
    ):
        with pytest.raises(ValueError, match=match):
            TrainingOptions(**options)
    with pytest.raises(ValueError, match="Unknown training option: lr"):
        TrainingOptions.from_dict({"lr": 1})
    assert TrainingOptions.from_dict(TrainingOptions(epochs=4).to_dict()) == TrainingOptions(epochs=4)
    # What earlier versions recorded besides.
    early = TrainingOptions.from_dict({"epochs": 4, "anchor": 0.0, "twins": True})
    assert early == TrainingOptions(epochs=4, category_weight=0, look_alike_weight=0)
    assert SamplingOptions.from_dict({"bystanders": 64, "twins": True}) == SamplingOptions(twins=True, epoch_batches=1)


def test_retrieval_can_only_be_watched_where_there_is_some(tmp_path):
    with pytest.raises(TrainingError, match="--retrieval"):
        make_trainer(tmp_path, monitor="recall_at_1")


def test_a_run_whose_record_knows_no_categories_goes_on_without():
    record = TrainingOptions().to_dict()
    assert TrainingOptions.from_dict(record) == TrainingOptions()
    for name in ("category_weight", "look_alike_weight"):
        del record[name]
    assert TrainingOptions.from_dict(record) == TrainingOptions(category_weight=0, look_alike_weight=0)
