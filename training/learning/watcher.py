"""What somebody sees of a run while it trains: a bar on the terminal and curves in TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shop_similarity.training.learning.loop import Watcher
from shop_similarity.training.learning.step import StepResult
from shop_similarity.training.learning.tensorboard_log import TensorBoardLog

_VALIDATION = (
    "val_loss",
    "val_accuracy",
    "look_alike_ndcg_at_10",
    "look_alike_map",
    "recall_at_1",
    "mean_average_precision",
)


class ProgressWatcher(Watcher):
    """For people.

    Args:
        stream: of the bar.
        quiet: no bar.
        folder: of TensorBoard's files; None writes none.
        options: the run's, for TensorBoard's "Text".
    """

    def __init__(self, stream: Any, quiet: bool, folder: Path | None, options: Mapping[str, Any]) -> None:
        self._stream = stream
        self._quiet = quiet
        self._folder = folder
        self._options = options
        self._log: TensorBoardLog | None = None
        self._bar: tqdm | None = None
        self._sums = [0.0, 0, 0]

    def begins(self, epoch: int, step: int) -> None:
        if self._folder is None:
            return
        # Steps count from 1; a folder that is begun anew starts empty.
        self._log = TensorBoardLog(self._folder, 0 if step == 1 else step, epoch)
        if not epoch:
            self._log.options(self._options)

    def epoch_begins(self, epoch: int, steps: int, done: int) -> None:
        self._close_bar()
        self._sums = [0.0, 0, 0]
        interval = 0.2 if sys.stderr.isatty() else 10
        self._bar = tqdm(
            desc=f"Epoch {epoch}",
            total=steps,
            initial=done,
            unit=" steps",
            file=self._stream,
            disable=self._quiet,
            mininterval=interval,
        )

    def step(self, epoch: int, number: int, result: StepResult, learning_rate: float) -> None:
        if self._log:
            accuracy = result.correct / max(1, result.triplets)
            self._log.step(number, {"loss": result.loss, "accuracy": accuracy, "learning_rate": learning_rate})
        self._sums[0] += result.loss * result.triplets
        self._sums[1] += result.correct
        self._sums[2] += result.triplets
        loss, correct, triplets = self._sums
        assert self._bar is not None
        self._bar.set_postfix(loss=f"{loss / triplets:.4f}", accuracy=f"{correct / triplets:.4f}", refresh=False)
        self._bar.update()

    def validating(self, done: int, total: int) -> None:
        if self._bar is not None and not self._quiet and done < total:
            self._bar.set_description_str(f"Validating {done}/{total}")

    def epoch_ends(self, record: Mapping[str, Any], best: bool) -> None:
        self._close_bar()
        epoch = record["epoch"]
        if self._log:
            training = {key: value for key, value in record.items() if key not in (*_VALIDATION, "epoch")}
            self._log.epoch(epoch, training, "train")
            self._log.epoch(epoch, {key: record[key] for key in _VALIDATION if key in record}, "validation")
        if not self._quiet:
            figures = [f"{_NAMES[key]} {record[key]:.4f}" for key in _NAMES if key in record]
            title = f"Epoch {epoch}" if epoch else "Start"
            self._stream.write(f"{title}: {', '.join(figures)}{' (best so far)' if best and epoch else ''}\n")

    def saving(self) -> None:
        if self._log:
            self._log.flush()

    def close(self) -> None:
        self._close_bar()
        if self._log:
            self._log.close()
            self._log = None

    def __enter__(self) -> ProgressWatcher:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


_NAMES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "look_alike_ndcg_at_10": "look-alike nDCG@10",
    "look_alike_map": "look-alike mAP",
    "recall_at_1": "R@1",
    "mean_average_precision": "mAP",
}
