"""Curves of a training run for TensorBoard, which continue without a seam when the run is resumed.

``tensorboard --logdir FOLDER`` shows three runs: ``train`` and ``validation`` with a point per epoch under the same
tags (``epoch/loss``), so that both lie in one chart, and ``train/steps`` with a point per optimiser step.

A killed run leaves points behind that the resumed one computes anew. TensorBoard drops such points by itself only in
part: its Python loader obeys the ``SessionLog.START`` events that a writer leaves, its data server in Rust (the
default) goes by steps that run backwards, and other readers of event files know neither. So the points are taken out
of the files before the first new one is written, and the ``SessionLog`` is written too, for a TensorBoard that is
already looking.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.summary.writer.record_writer import RecordWriter

from shop_similarity.training.files import private_folder

SPLITS = ("train", "validation")
_STEPS = "steps"


class TensorBoardLog:
    """Writer of one training run's curves and text.

    Args:
        folder: what ``tensorboard --logdir`` is given; made if it is missing.
        first_step: the first step that will be written. Points of this step and later ones that the folder already
            holds are dropped.
        first_epoch: the same for epochs. With both at 0 the folder starts empty.

    Call :meth:`flush` before a checkpoint is declared complete: what is written later than that may be lost by a kill,
    and is written anew by the run that resumes from the checkpoint.
    """

    def __init__(self, folder: Path, first_step: int = 0, first_epoch: int = 0) -> None:
        self.folder = Path(folder)
        self._first_step = first_step
        self._first_epoch = first_epoch
        self._writers: dict[Path, EventFileWriter] = {}
        private_folder(self.folder)
        for split in SPLITS:
            _drop_events(self.folder / split, first_epoch)
            _drop_events(self.folder / split / _STEPS, first_step)

    def step(self, step: int, values: Mapping[str, float | None], split: str = "train") -> None:
        """One point per value at an optimiser step, under ``step/NAME``; None is left out."""
        self._scalars(self._of_split(split) / _STEPS, self._first_step, "step", step, values)

    def epoch(self, epoch: int, values: Mapping[str, float | None], split: str = "train") -> None:
        """One point per value at the end of an epoch, under ``epoch/NAME``; None is left out.

        ``val_loss`` of the validation split is written as ``epoch/loss``: equal tags share a chart.
        """
        if split == "validation":
            values = {name.removeprefix("val_"): value for name, value in values.items()}
        self._scalars(self._of_split(split), self._first_epoch, "epoch", epoch, values)

    def options(self, options: Mapping[str, Any]) -> None:
        """What the run was started with, as a table under TensorBoard's "Text"."""
        rows = "".join(f"| {_cell(name)} | {_cell(value)} |\n" for name, value in options.items())
        summary = text_pb("options", "| option | value |\n|---|---|\n" + rows)
        self._add(self._of_split("train"), self._first_epoch, self._first_epoch, summary)

    def flush(self) -> None:
        """Put everything written so far on disk."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Flush and close; the log takes nothing more."""
        for writer in self._writers.values():
            writer.close()

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _of_split(self, split: str) -> Path:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}.")
        return self.folder / split

    def _scalars(self, run: Path, first: int, prefix: str, step: int, values: Mapping[str, float | None]) -> None:
        summary = Summary()
        for name, value in values.items():
            if value is not None:
                summary.MergeFrom(scalar_pb(f"{prefix}/{name}", float(value)))
        if summary.value:
            self._add(run, first, step, summary)

    def _add(self, run: Path, first: int, step: int, summary: Summary) -> None:
        writer = self._writers.get(run)
        if writer is None:
            _wait_for_a_later_name(run)
            writer = self._writers[run] = EventFileWriter(str(run))
            start = SessionLog(status=SessionLog.START)
            writer.add_event(Event(wall_time=time.time(), step=first, session_log=start))
        writer.add_event(Event(wall_time=time.time(), step=int(step), summary=summary))


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return " ".join(text.split()).replace("|", "\\|")


def _wait_for_a_later_name(run: Path) -> None:
    """Wait for the next second if a file of the run is of this one.

    A writer's file is named after the second it was opened in, and readers take files in the order of their names.
    """
    second = f"events.out.tfevents.{int(time.time()):010d}"
    if any(run.glob(f"{second}.*")):
        time.sleep(1 - time.time() % 1)


def _drop_events(run: Path, first_step: int) -> None:
    """Leave only the summaries before ``first_step`` in a run's event files; half-written records go too."""
    for file in run.glob("*tfevents*"):
        rest = run / "resumed.tmp"
        summaries = 0
        with rest.open("wb") as stream:
            writer = RecordWriter(stream)
            for record in RawEventFileLoader(str(file)).Load():
                event = Event.FromString(record)
                if event.HasField("summary"):
                    if event.step >= first_step:
                        continue
                    summaries += 1
                writer.write(record)
            stream.flush()
            os.fsync(stream.fileno())
        if summaries:
            rest.replace(file)
        else:
            rest.unlink()
            file.unlink()
