"""The training loop: epochs, validation, the best of them, and a state on disk from which it goes on.

A run can be killed at any moment. Its order of photos, its random numbers and its variables are all part of the last
checkpoint or follow from the seed, so that on one kind of CPU, with deterministic operations, the run that was resumed
ends with the same history as the one that never stopped.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.files import write_atomically
from shop_similarity.training.learning import checkpoints, epoch_weights
from shop_similarity.training.learning.distribution import Distribution
from shop_similarity.training.learning.feature_sources import FeatureSource, ahead
from shop_similarity.training.learning.folder import CHECKPOINTS, HISTORY
from shop_similarity.training.learning.head_space import HeadSpace
from shop_similarity.training.learning.options import NEEDS_LOOK_ALIKE, NEEDS_RETRIEVAL, TrainingOptions
from shop_similarity.training.learning.relations import Relations
from shop_similarity.training.learning.sampling import Batch, Sampler
from shop_similarity.training.learning.step import Inputs, StepResult, TrainingStep, boundary
from shop_similarity.training.learning.validation import Validation
from shop_similarity.training.networks.architectures.parts import FEATURES, in_parts
from shop_similarity.training.networks.questions import Questions
from shop_similarity.training.networks.runner import FixedShape
from shop_similarity.training.networks.splitting import Split

EMBED_BATCH = 64


class TrainingInterrupted(Exception):
    """Somebody stopped the run; the sentence says how to go on."""


class Watcher:
    """Is told what happens, and makes nothing of it."""

    def begins(self, epoch: int, step: int) -> None:
        """The run begins or goes on: ``epoch`` and ``step`` (from 1 on, over all epochs) come next."""

    def epoch_begins(self, epoch: int, steps: int, done: int) -> None:
        """An epoch of ``steps`` steps, ``done`` of which were made before the run was resumed."""

    def step(self, epoch: int, number: int, result: StepResult, learning_rate: float) -> None:
        """Step ``number`` (from 1 on, over all epochs) was made."""

    def epoch_ends(self, record: Mapping[str, Any], best: bool) -> None:
        """A line was added to the history."""

    def validating(self, done: int, total: int) -> None:
        """``done`` of ``total`` validation photos are embedded."""

    def saving(self) -> None:
        """A checkpoint is about to be written: what was told before will not be told again."""


@dataclass
class TrainingResult:
    """How a run ended.

    Attributes:
        history: one record for each epoch, from 0, the start.
        best_epoch: whose weights the model has now; 0 if no epoch was better than the start.
        stopped_early: whether patience ran out.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    stopped_early: bool

    @property
    def best(self) -> dict[str, Any]:
        """The best epoch's record."""
        return next(record for record in self.history if record["epoch"] == self.best_epoch)


@dataclass
class _State:
    """Where a run stands; all of it is in a checkpoint."""

    epoch: int = 0
    step: int = 0
    steps_made: int = 0
    losses: list[float] = field(default_factory=lambda: [0.0, 0.0])
    correct: int = 0
    triplets: int = 0
    photos: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: list[float] | None = None
    waited: int = 0
    finished: bool = False
    stopped_early: bool = False

    def begin_epoch(self, epoch: int) -> None:
        self.epoch, self.step = epoch, 0
        self.losses, self.correct, self.triplets, self.photos, self.seconds = [0.0, 0.0], 0, 0, 0, 0.0

    def add(self, result: StepResult) -> None:
        self.step += 1
        self.steps_made += 1
        self.losses[0] += result.loss * result.triplets
        self.losses[1] += result.triplets
        self.correct += result.correct
        self.triplets += result.triplets
        self.photos += result.photos

    def figures(self) -> dict[str, Any]:
        """Of the epoch."""
        return {
            "loss": self.losses[0] / self.losses[1],
            "accuracy": self.correct / self.triplets,
            "learning_rate": self.learning_rate,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.photos / max(self.seconds, 1e-9), 1),
        }


class Trainer:
    """Trains a model and keeps its best epoch.

    Args:
        model: the whole model; it has its starting weights.
        split: its two halves.
        source: gives the inputs of batches.
        sampler: makes the batches.
        relations: of the training photos.
        options: see :class:`~shop_similarity.training.learning.options.TrainingOptions`.
        folder: of the run.
        validation: what every epoch is measured on; without it the last epoch is the best.
        distribution: devices; the model must have been made in its scope.
        watcher: is told what happens.
        backbone: names of the layers that ``backbone_rate`` holds for.
        colours: numbers at the end of the features that are a histogram of colours; what is trained in the head's own
            space leaves them alone, and photos of one category that agree in them count as look-alikes.
    """

    def __init__(
        self,
        model: keras.Model,
        split: Split,
        source: FeatureSource,
        sampler: Sampler,
        relations: Relations,
        options: TrainingOptions,
        folder: Path,
        validation: Validation | None = None,
        distribution: Distribution | None = None,
        watcher: Watcher | None = None,
        backbone: Sequence[str] = (),
        colours: int = 0,
        questions: Questions | None = None,
    ) -> None:
        self.model = model
        self.options = options
        self.folder = folder
        self._source = source
        self._sampler = sampler
        self._relations = relations
        self._validation = validation
        self._distribution = distribution or Distribution()
        self._watcher = watcher or Watcher()
        steps = math.ceil(len(sampler.epoch(1)) / options.accumulate)
        if not steps:
            raise TrainingError("The data gives no batch to train on.")
        if validation is not None and validation.queries is None and options.monitor in NEEDS_RETRIEVAL:
            raise TrainingError(
                f"{options.monitor} can only be watched with a retrieval set: name one with --retrieval."
            )
        if validation is not None and validation.look_alike is None and options.monitor in NEEDS_LOOK_ALIKE:
            raise TrainingError(
                f"{options.monitor} can only be watched with a look-alike set: name one with --look-alike."
            )
        self._space = HeadSpace.of(model, split, colours, self._distribution.scope(), questions)
        split = self.split = self._space.split if self._space else split
        self._step = TrainingStep(
            split,
            options,
            options.epochs * steps,
            steps,
            source.from_photos,
            self._distribution,
            backbone,
            colours if split.boundary == (FEATURES,) else 0,
            _questions(questions, self._space) if questions else None,
        )
        self._questions = questions
        self._embed = FixedShape(
            lambda *features: split.trainable(boundary(split, features, source.from_photos), training=False),
            EMBED_BATCH,
        )

    def fit(self, resume: bool = False) -> TrainingResult:
        """Train until the last epoch, or until patience runs out.

        Args:
            resume: go on from the newest checkpoint of the folder, if there is one.

        Returns:
            How it went; the model has the weights of its best epoch.

        Raises:
            TrainingInterrupted: Ctrl-C or SIGTERM; a checkpoint was written.
            TrainingError: the loss or the weights are not finite, the disk is full, or weights are missing.
        """
        try:
            state = self._restore() if resume else None
            with _stop_requests() as stop:
                if state is None:
                    state = _State()
                    self._watcher.begins(0, 1)
                    self._end_epoch(state, self._evaluate())
                else:
                    self._watcher.begins(state.epoch, state.steps_made + 1)
                while not state.finished:
                    self._epoch(state, stop)
                    self._end_epoch(state, state.figures() | self._evaluate())
        except checkpoints.CheckpointError as error:
            raise TrainingError(str(error)) from error
        # The others read what the chief has written.
        self._distribution.agree(0.0)
        epoch_weights.load(self.model, self.folder, state.best_epoch)
        self.take_weights()
        return TrainingResult(state.history, state.best_epoch, state.stopped_early)

    def take_weights(self) -> None:
        """Go on with the weights that the model has been given."""
        if self._space:
            self._space.take()

    def embed(self, photos: np.ndarray, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Embeddings ``(n, d)`` ``float32`` of the photos at some places, as they are."""
        chunks = [photos[start : start + EMBED_BATCH] for start in range(0, len(photos), EMBED_BATCH)]
        parts = []
        done = 0
        for chunk, features in zip(chunks, ahead(self._source.plain(chunks)), strict=True):
            parts += self._embed(*features)
            done += len(chunk)
            if progress:
                progress(done, len(photos))
        rows = np.concatenate(parts)
        return self._space.lift(rows) if self._space else rows

    def _epoch(self, state: _State, stop: threading.Event) -> None:
        """Make the steps of an epoch, or those that are left of it."""
        batches = self._sampler.epoch(state.epoch)
        size = self.options.accumulate
        steps = math.ceil(len(batches) / size)
        self._watcher.epoch_begins(state.epoch, steps, state.step)
        saved = time.monotonic()
        began = saved - state.seconds
        first = state.step * size
        features = self._source.training(batches, state.epoch, first)
        inputs = ahead(map(self._inputs, batches[first:], features))
        try:
            while state.step < steps:
                state.learning_rate = self._step.learning_rate
                result = self._step(list(islice(inputs, size)))
                if not math.isfinite(result.loss):
                    raise self._diverged("The loss is no number", state)
                state.add(result)
                state.seconds = time.monotonic() - began
                self._watcher.step(state.epoch, state.steps_made, result, state.learning_rate)
                if stop.is_set():
                    self._require_finite(state, {})
                    self._save(state)
                    raise TrainingInterrupted(
                        f"Stopped in epoch {state.epoch} after {state.step} of {steps} steps. Nothing is lost: go on "
                        f"with --resume {self.folder}"
                    )
                if time.monotonic() - saved > self.options.checkpoint_seconds and state.step < steps:
                    self._require_finite(state, {})
                    self._save(state)
                    saved = time.monotonic()
        finally:
            inputs.close()

    def _diverged(self, what: str, state: _State) -> TrainingError:
        if not state.epoch:
            return TrainingError(
                f"{what} before any training: the weights that the run starts with are damaged or too large for its "
                "precision, or the loss can't work with its --margin or --temperature. Start from another version "
                "(--fine-tune) or other weights (--weights), or try --precision float32."
            )
        return TrainingError(
            f"{what} any more in epoch {state.epoch}, step {state.step + 1}, so the training was stopped. Start a new "
            f"run with a lower --learning-rate or with --clip 1. The epochs before are kept in {self.folder}."
        )

    def _require_finite(self, state: _State, figures: Mapping[str, Any]) -> None:
        """What has diverged must take the place of no better weights and of no checkpoint."""
        if names := checkpoints.not_finite(self._step.arrays()):
            raise self._diverged(f"The variable {names[0]} is no number", state)
        for name, value in figures.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise self._diverged(f"{name} is no number", state)

    def _inputs(self, batch: Batch, features: list[np.ndarray]) -> Inputs:
        categories = self._relations.categories_of(batch.photos)
        masks = *self._relations.masks(batch.photos), self._relations.instances(batch.photos)
        return Inputs(features, batch.rows, *masks, categories)

    def _end_epoch(self, state: _State, figures: dict[str, Any]) -> None:
        """Write an epoch into the history, keep its weights if it is the best, and save the state."""
        epoch = state.epoch
        self._require_finite(state, figures)
        record = {"epoch": epoch, **figures}
        state.history.append(record)
        value = self._value(record)
        best = value is None or state.best is None or value > state.best
        if best:
            state.best, state.best_epoch, state.waited = value, epoch, 0
        else:
            state.waited += 1
        if self._distribution.chief and (best or self.options.keep_epochs):
            with self._step.kept_weights():
                if self._space:
                    self._space.fold()
                epoch_weights.keep(self.model, self.folder, epoch)
        patience = self.options.patience
        state.stopped_early = bool(patience) and state.waited >= patience and epoch < self.options.epochs
        state.finished = state.stopped_early or epoch >= self.options.epochs
        state.begin_epoch(epoch + 1)
        self._watcher.epoch_ends(record, best)
        self._save(state)
        self._settle(state)

    def _value(self, record: Mapping[str, float]) -> list[float] | None:
        """What epochs are compared by, larger is better: the figure that is watched and, where it ties, the loss."""
        if self._validation is None:
            return None
        monitor = self.options.monitor
        if monitor == "auto":
            monitor = "val_accuracy" if self._validation.look_alike is None else NEEDS_LOOK_ALIKE[0]
        figure, loss = record[monitor], record["val_loss"]
        value = [-figure if monitor == "val_loss" else figure, -loss]
        return [self._distribution.agree(each) for each in value]

    def _evaluate(self) -> dict[str, float]:
        if self._validation is None:
            return {}
        with self._step.kept_weights():
            embeddings = self.embed(self._validation.photos(), self._watcher.validating)
        if not np.isfinite(embeddings).all() or not embeddings.any():
            # Half precision may overflow where the weights are finite; what is divided by an infinite length is 0.
            return {"val_loss": math.nan}
        return self._validation.measure(
            embeddings, self._step.evaluate, self._questions.asked_by_photo if self._questions else None
        )

    def _save(self, state: _State) -> None:
        self._watcher.saving()
        if not self._distribution.chief:
            return
        folder = self.folder / CHECKPOINTS
        name = checkpoints.name_of(state.epoch - 1, state.step)
        checkpoints.save(folder, name, self._step.arrays(), {"progress": vars(state), "step": self._step.numbers()})
        checkpoints.prune(folder, self.options.keep_checkpoints)

    def _restore(self) -> _State | None:
        checkpoint = checkpoints.latest(self.folder / CHECKPOINTS)
        if checkpoint is None:
            return None
        try:
            self._step.restore(checkpoint.arrays, checkpoint.state["step"])
            state = _State(**checkpoint.state["progress"])
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"{checkpoint.path} does not fit this run: {error}") from error
        self._settle(state)
        return state

    def _settle(self, state: _State) -> None:
        """Bring what stands beside the checkpoints to what the newest says: a kill may have come between the two."""
        if not self._distribution.chief:
            return
        write_atomically(self.folder / HISTORY, "".join(json.dumps(record) + "\n" for record in state.history))
        epoch_weights.set_best(self.folder, state.best_epoch)
        # An older checkpoint is gone on from where the newest is damaged.
        known = {each["progress"]["best_epoch"] for each in checkpoints.states(self.folder / CHECKPOINTS)}
        epoch_weights.prune(self.folder, state.epoch - 1, known | {state.best_epoch}, self.options.keep_epochs)


def _questions(questions: Questions, space: HeadSpace | None) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """From embeddings, of the space or of the model, to what either question compares."""
    if space:
        first, second = space.parts
        parts = (first, second, slice(second.stop, None))
    else:
        parts = questions.parts
    own, search = questions.stored, questions.search

    def asked(embeddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = embeddings if space else in_parts(questions, embeddings)
        look, instance, colours = (rows[:, part] for part in parts)
        # Either part and the colours beside it, each with the energy that its share in the answer is.
        by_photo = [
            part * float(np.sqrt(search[number] / own[number])) for number, part in ((1, instance), (2, colours))
        ]
        return tuple(tf.math.l2_normalize(tf.concat(pair, axis=1), axis=1) for pair in ((look, colours), by_photo))

    return asked


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a step is never torn apart; the second one stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What a parent told us to ignore stays ignored.
    chosen = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in chosen:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number in chosen:
            signal.signal(number, before[number])
