"""The weights of epochs by name; however a run is killed, the best of them is one that its checkpoint knows."""

import json
import os
import signal
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.learning import checkpoints, epoch_weights
from shop_similarity.training.learning.loop import Watcher
from tests.training.small_run import figures, history_of, make_trainer

# Validation loss falls in every epoch of this run, so that each is the best so far.
STEADY = {"learning_rate": 1e-3, "schedule": "constant"}
OPTIONS = {"epochs": 3, "monitor": "val_loss", "checkpoint_seconds": 3600, **STEADY}


class Killed(BaseException):
    """Nothing that runs afterwards gets to tidy up."""


class Killer(Watcher):
    """Ends the run before it writes a checkpoint; meanwhile it looks at the weights of every epoch."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.saved, self.trainer, self.weights = at, 0, None, []

    def epoch_ends(self, record, best):
        self.weights.append(self.trainer.split.trainable.get_weights()[0])

    def saving(self):
        self.saved += 1
        if self.saved == self.at:
            raise Killed


def run(folder, at=0, resume=False, **options):
    killer = Killer(at)
    killer.trainer = make_trainer(folder, watcher=killer, **(OPTIONS | options))
    return killer, killer.trainer.fit(resume)


def best_weights(folder):
    """Of the head in ``best.weights.h5``."""
    with h5py.File(folder / "best.weights.h5") as file:
        return file["layers/dense/vars/0"][...]


@pytest.fixture(scope="module", autouse=True)
def repeatable():
    tf.config.experimental.enable_op_determinism()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    killer, result = run(folder)
    assert result.best_epoch == 3
    return folder, killer.weights, result


def test_a_kill_between_best_weights_and_checkpoint_leaves_a_best_that_the_checkpoint_knows(
    tmp_path, whole, monkeypatch
):
    _, weights, result = whole
    with pytest.raises(Killed):
        # Checkpoints come after the start and after each epoch: this is the second epoch's.
        run(tmp_path, at=3)
    assert checkpoints.newest_state(tmp_path / "checkpoints")["progress"]["best_epoch"] == 1
    assert np.array_equal(best_weights(tmp_path), weights[1])
    # Once more, on the other side of the checkpoint.
    inner = epoch_weights.set_best

    def killed(folder, epoch):
        if epoch == 2:
            raise Killed
        inner(folder, epoch)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(epoch_weights, "set_best", killed)
        run(tmp_path, resume=True)
    assert checkpoints.newest_state(tmp_path / "checkpoints")["progress"]["best_epoch"] == 2
    assert np.array_equal(best_weights(tmp_path), weights[1])
    killer, again = run(tmp_path, resume=True)
    assert figures(again.history) == figures(result.history) == figures(history_of(tmp_path))
    assert np.array_equal(best_weights(tmp_path), weights[3])
    # It is right as soon as the run goes on.
    epoch_weights.set_best(tmp_path, 2)
    killer.trainer._restore()
    assert np.array_equal(best_weights(tmp_path), weights[3])


@pytest.mark.long
def test_kill_9_between_best_weights_and_checkpoint(tmp_path, whole):
    _, weights, result = whole
    command = [sys.executable, "-m", "tests.training.small_run", str(tmp_path)]
    for more, expected in (({"kill_saving": 3}, -signal.SIGKILL), ({}, 0)):
        process = subprocess.run(
            [*command, json.dumps(OPTIONS | more)], capture_output=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        )
        assert process.returncode == expected, process.stderr[-3000:]
        known = checkpoints.newest_state(tmp_path / "checkpoints")["progress"]["best_epoch"]
        assert known == (1 if more else 3)
        assert np.array_equal(best_weights(tmp_path), weights[known])
    assert figures(history_of(tmp_path)) == figures(result.history)


def test_without_a_wish_the_best_alone_is_kept_beside_what_the_older_checkpoint_needs(whole):
    folder, weights, _ = whole
    assert epoch_weights.kept_epochs(folder) == [2, 3]
    assert np.array_equal(best_weights(folder), weights[3])


def test_the_newest_epochs_are_kept_by_name(tmp_path):
    # So large a rate that no epoch is better than the start.
    killer, result = run(tmp_path, epochs=4, learning_rate=300.0, optimizer="sgd", keep_epochs=2)
    assert result.best_epoch == 0
    assert epoch_weights.kept_epochs(tmp_path) == [0, 3, 4]
    for epoch in (0, 3, 4):
        epoch_weights.load(killer.trainer.model, tmp_path, epoch)
        assert np.array_equal(killer.trainer.split.trainable.get_weights()[0], killer.weights[epoch])


def test_epochs_that_are_not_kept_or_lost_are_told(tmp_path, whole):
    with pytest.raises(TrainingError, match=r"not hold the weights of epoch 1, but of 2, 3\. Train with --keep-epochs"):
        epoch_weights.load(keras.Sequential(), whole[0], 1)
    with pytest.raises(TrainingError, match=r"epoch-007\.weights\.h5, the best epoch's weights, is missing"):
        epoch_weights.set_best(tmp_path, 7)


def test_a_disk_that_knows_no_links_gets_a_copy(tmp_path, monkeypatch):
    def unknown(*args):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", unknown)
    epoch_weights.path_of(tmp_path, 4).parent.mkdir()
    epoch_weights.path_of(tmp_path, 4).write_bytes(b"weights")
    epoch_weights.set_best(tmp_path, 4)
    assert (tmp_path / "best.weights.h5").read_bytes() == b"weights"
    assert (tmp_path / "best.weights.h5").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.weights.h5", "weights"]
