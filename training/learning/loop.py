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
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.evaluation.metrics import rank, triplet_accuracy
from shop_similarity.training.files import write_atomically
from shop_similarity.training.learning import checkpoints
from shop_similarity.training.learning.distribution import Distribution
from shop_similarity.training.learning.feature_sources import FeatureSource, ahead
from shop_similarity.training.learning.options import TrainingOptions
from shop_similarity.training.learning.relations import Relations
from shop_similarity.training.learning.sampling import Sampler, TripletSampler
from shop_similarity.training.learning.step import Inputs, StepResult, TrainingStep, boundary
from shop_similarity.training.networks.splitting import Split

BEST_WEIGHTS = "best.weights.h5"
CHECKPOINTS = "checkpoints"
HISTORY = "history.jsonl"
EMBED_BATCH = 64


class TrainingInterrupted(Exception):
    """Somebody stopped the run; the sentence says how to go on."""


class Watcher(Protocol):
    """Who is told what happens."""

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


class SilentWatcher:
    """Tells nobody."""

    def begins(self, epoch: int, step: int) -> None: ...

    def epoch_begins(self, epoch: int, steps: int, done: int) -> None: ...

    def step(self, epoch: int, number: int, result: StepResult, learning_rate: float) -> None: ...

    def epoch_ends(self, record: Mapping[str, Any], best: bool) -> None: ...

    def validating(self, done: int, total: int) -> None: ...

    def saving(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Validation:
    """What every epoch is measured on; all places are in the trainer's list of photos.

    Attributes:
        rows: ``(m, 3)`` triplets.
        relations: for the loss of losses over batches.
        batch_size: triplets of a batch of that loss, as in training.
        queries: ``(q,)`` places of a retrieval set's queries; without them no retrieval is measured.
        gallery: ``(g,)`` places.
        relevance: ``(q, g)``, from 1 on a hit.
        itself: ``(q, g)`` bool, where the photo of the gallery is the query.
    """

    rows: np.ndarray
    relations: Relations
    batch_size: int = 64
    queries: np.ndarray | None = None
    gallery: np.ndarray | None = None
    relevance: np.ndarray | None = None
    itself: np.ndarray | None = None

    def photos(self) -> np.ndarray:
        """Places of all photos that have to be embedded, ascending."""
        parts = [self.rows.reshape(-1)]
        if self.queries is not None:
            parts += [self.queries, self.gallery]
        return np.unique(np.concatenate(parts)).astype(np.int64)


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


@dataclass
class _Progress:
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
    ) -> None:
        self.model = model
        self.split = split
        self.options = options
        self.folder = folder
        self._source = source
        self._sampler = sampler
        self._relations = relations
        self._validation = validation
        self._distribution = distribution or Distribution()
        self._watcher = watcher or SilentWatcher()
        self._steps = math.ceil(len(sampler.epoch(1)) / options.accumulate)
        if not self._steps:
            raise TrainingError("The data gives no batch to train on.")
        if validation is not None and validation.queries is None and options.monitor in _NEEDS_RETRIEVAL:
            raise TrainingError(
                f"{options.monitor} can only be watched with a retrieval set: name one with --retrieval."
            )
        self._step = TrainingStep(
            split,
            options,
            options.epochs * self._steps,
            self._steps,
            source.from_photos,
            self._distribution,
            backbone,
        )
        # What is evaluated may be a blend with it.
        self._start = split.trainable.get_weights()
        self._embed = tf.function(
            lambda features: tf.cast(
                split.trainable(boundary(split, features, source.from_photos), training=False), tf.float32
            ),
            reduce_retracing=True,
        )

    def fit(self, resume: bool = False) -> TrainingResult:
        """Train until the last epoch, or until patience runs out.

        Args:
            resume: go on from the newest checkpoint of the folder, if there is one.

        Returns:
            How it went; the model has the weights of its best epoch.

        Raises:
            TrainingInterrupted: Ctrl-C or SIGTERM; a checkpoint was written.
            TrainingError: the loss is not finite, or the disk is full.
        """
        try:
            progress = self._restore() if resume else None
            with _stop_requests() as stop:
                if progress is None:
                    progress = _Progress()
                    self._watcher.begins(0, 1)
                    self._end_epoch(progress, self._evaluate())
                else:
                    self._watcher.begins(progress.epoch, progress.steps_made + 1)
                while not progress.finished:
                    self._epoch(progress, stop)
        except checkpoints.CheckpointError as error:
            raise TrainingError(str(error)) from error
        if progress.best_epoch or (self.folder / BEST_WEIGHTS).exists():
            self._distribution_wait()
            self.model.load_weights(self.folder / BEST_WEIGHTS)
        return TrainingResult(progress.history, progress.best_epoch, progress.stopped_early)

    def embed(self, photos: np.ndarray, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Embeddings ``(n, d)`` ``float32`` of the photos at some places, as they are."""
        chunks = [photos[start : start + EMBED_BATCH] for start in range(0, len(photos), EMBED_BATCH)]
        parts = []
        done = 0
        for chunk, features in zip(chunks, ahead(self._source.plain(chunks)), strict=True):
            # A smaller last batch would be compiled anew.
            padded = [_padded(feature, EMBED_BATCH) for feature in features]
            parts.append(self._embed([tf.constant(feature) for feature in padded]).numpy()[: len(chunk)])
            done += len(chunk)
            if progress:
                progress(done, len(photos))
        return np.concatenate(parts)

    def _epoch(self, progress: _Progress, stop: threading.Event) -> None:
        batches = self._sampler.epoch(progress.epoch)
        size = self.options.accumulate
        steps = math.ceil(len(batches) / size)
        self._watcher.epoch_begins(progress.epoch, steps, progress.step)
        began = saved = time.monotonic()
        before = progress.seconds
        first = progress.step * size
        features = self._source.training(batches, progress.epoch, first)
        inputs = ahead(map(self._inputs, batches[first:], features))
        try:
            while progress.step < steps:
                progress.learning_rate = self._step.learning_rate
                result = self._step(list(islice(inputs, size)))
                if not math.isfinite(result.loss):
                    raise TrainingError(self._not_finite(progress))
                progress.step += 1
                progress.steps_made += 1
                progress.losses[0] += result.loss * result.triplets
                progress.losses[1] += result.triplets
                progress.correct += result.correct
                progress.triplets += result.triplets
                progress.photos += result.photos
                progress.seconds = before + time.monotonic() - began
                self._watcher.step(progress.epoch, progress.steps_made, result, progress.learning_rate)
                if stop.is_set():
                    self._save(progress)
                    raise TrainingInterrupted(
                        f"Stopped in epoch {progress.epoch} after {progress.step} of {steps} steps. Nothing is lost: "
                        f"go on with --resume {self.folder}"
                    )
                if time.monotonic() - saved > self.options.checkpoint_seconds and progress.step < steps:
                    self._save(progress)
                    saved = time.monotonic()
        finally:
            inputs.close()
        record = {
            "loss": progress.losses[0] / progress.losses[1],
            "accuracy": progress.correct / progress.triplets,
            "learning_rate": progress.learning_rate,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(progress.photos / max(progress.seconds, 1e-9), 1),
        }
        self._end_epoch(progress, record | self._evaluate())

    def _inputs(self, batch: Any, features: list[np.ndarray]) -> Inputs:
        positive, negative = self._relations.masks(batch.photos, self.options.twins)
        return Inputs(features, batch.rows, positive, negative)

    def _end_epoch(self, progress: _Progress, record: dict[str, Any]) -> None:
        """Write an epoch into the history, keep its weights if it is the best, and save the state."""
        epoch = progress.epoch
        record = {"epoch": epoch, **record}
        progress.history.append(record)
        value = self._value(record)
        best = value is None or progress.best is None or value > progress.best
        if best:
            progress.best, progress.best_epoch, progress.waited = value, epoch, 0
            self._keep_best()
        else:
            progress.waited += 1
        patience = self.options.patience
        progress.stopped_early = bool(patience) and progress.waited >= patience and epoch < self.options.epochs
        progress.finished = progress.stopped_early or epoch >= self.options.epochs
        progress.begin_epoch(epoch + 1)
        self._watcher.epoch_ends(record, best)
        self._save(progress)
        self._write_history(progress.history)

    def _value(self, record: Mapping[str, float]) -> list[float] | None:
        """What epochs are compared by, larger is better: the figure that is watched and, where it ties, the loss."""
        if self._validation is None:
            return None
        watched, loss = record[self.options.monitor], record["val_loss"]
        value = [-watched if self.options.monitor == "val_loss" else watched, -loss]
        return [self._distribution.agree(each) for each in value]

    def _evaluate(self) -> dict[str, float]:
        validation = self._validation
        if validation is None:
            return {}
        photos = validation.photos()
        with self._evaluated_weights():
            embeddings = self.embed(photos, self._watcher.validating)
        rows = np.searchsorted(photos, validation.rows).astype(np.int32)
        record = {
            "val_loss": self._validation_loss(embeddings, photos),
            "val_accuracy": triplet_accuracy(embeddings, rows),
        }
        if validation.queries is not None:
            queries = embeddings[np.searchsorted(photos, validation.queries)]
            gallery = embeddings[np.searchsorted(photos, validation.gallery)]
            ranking = rank(queries @ gallery.T, validation.relevance, validation.itself)
            record |= {
                "recall_at_1": ranking.recall_at(1),
                "mean_average_precision": ranking.mean_average_precision,
            }
        return record

    def _validation_loss(self, embeddings: np.ndarray, photos: np.ndarray) -> float:
        validation = self._validation
        # Mixed once and for all: neighbours in a file often share their photos.
        batches = TripletSampler(validation.rows, validation.batch_size, seed=0).epoch(0)
        losses = []
        for batch in batches:
            masks = validation.relations.masks(batch.photos)
            chosen = embeddings[np.searchsorted(photos, batch.photos)]
            losses.append(self._step.evaluate(chosen, batch.rows, *masks))
        sizes = [len(batch) for batch in batches]
        return float(np.average(losses, weights=sizes))

    @contextmanager
    def _evaluated_weights(self) -> Iterator[None]:
        """The weights that are measured and kept: averaged over the steps and blended with the start, if asked for."""
        trainable = self.split.trainable
        averages = self._step.averages()
        if averages is None and self.options.blend == 1:
            yield
            return
        kept = trainable.get_weights()
        if averages is not None:
            for variable, average in zip(trainable.trainable_variables, averages, strict=True):
                variable.assign(average)
        share = self.options.blend
        if share != 1:
            trainable.set_weights(
                [
                    (share * trained + (1 - share) * start).astype(trained.dtype)
                    for trained, start in zip(trainable.get_weights(), self._start, strict=True)
                ]
            )
        try:
            yield
        finally:
            trainable.set_weights(kept)

    def _keep_best(self) -> None:
        if not self._distribution.chief:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # Keras tells formats apart by suffix.
        part = self.folder / f".part-{BEST_WEIGHTS}"
        try:
            with self._evaluated_weights():
                self.model.save_weights(part)
            part.replace(self.folder / BEST_WEIGHTS)
        except OSError as error:
            raise TrainingError(
                f"The weights can't be written to {self.folder}: {error}. Make room, then go on with --resume."
            ) from error
        finally:
            part.unlink(missing_ok=True)

    def _save(self, progress: _Progress) -> None:
        self._watcher.saving()
        if not self._distribution.chief:
            return
        arrays = self._step.arrays()
        arrays |= {f"blend/{place:04d}": value for place, value in enumerate(self._start)} if self._blends else {}
        state = {"progress": vars(progress), "step": self._step.numbers()}
        folder = self.folder / CHECKPOINTS
        name = checkpoints.name_of(progress.epoch - 1, progress.step)
        checkpoints.save(folder, name, arrays, state)
        checkpoints.prune(folder, self.options.keep_checkpoints)

    def _restore(self) -> _Progress | None:
        checkpoint = checkpoints.latest(self.folder / CHECKPOINTS)
        if checkpoint is None:
            return None
        arrays = dict(checkpoint.arrays)
        try:
            if self._blends:
                self._start = [arrays.pop(f"blend/{place:04d}") for place in range(len(self._start))]
            self._step.restore(arrays, checkpoint.state["step"])
            progress = _Progress(**checkpoint.state["progress"])
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"{checkpoint.path} does not fit this run: {error}") from error
        # A run that was killed between the two has one line too few or too many.
        self._write_history(progress.history)
        return progress

    @property
    def _blends(self) -> bool:
        return self.options.blend != 1

    def _write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        if self._distribution.chief:
            text = "".join(json.dumps(record) + "\n" for record in history)
            write_atomically(self.folder / HISTORY, text)

    def _distribution_wait(self) -> None:
        # The others read what the chief has written.
        self._distribution.agree(0.0)

    def _not_finite(self, progress: _Progress) -> str:
        return (
            f"The loss is no number any more in epoch {progress.epoch}, step {progress.step + 1}, so the training was "
            "stopped. Start a new run with a lower --learning-rate or with --clip 1. The epochs before are kept in "
            f"{self.folder}."
        )


_NEEDS_RETRIEVAL = ("recall_at_1", "mean_average_precision")


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The history of a run, as far as it has come."""
    path = folder / HISTORY
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a step is never torn apart; the second one stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(number, before[number])

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


def _padded(array: np.ndarray, rows: int) -> np.ndarray:
    if len(array) == rows:
        return array
    result = np.zeros((rows, *array.shape[1:]), dtype=array.dtype)
    result[: len(array)] = array
    return result
