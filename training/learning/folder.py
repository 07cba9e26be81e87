"""The files of a run's folder.

It holds everything that the run was started with (``run.json``, ``start.weights.h5``, ``calibration.json``,
``validation.csv``; where the triplets are the shop's ``train.csv``, ``old.csv`` and, in ``sets/``, what its products
are measured by), its curves (``history.jsonl``, ``tensorboard/``), the state it goes on from (``checkpoints/``,
``weights/``) and what it has come to (``best.weights.h5``, ``evaluation.json``, ``test.json``, ``embeddings.npz``,
``report.html``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.files import replacement, write_atomically
from shop_similarity.training.networks.weights_files import WeightsFileError, load_checked

if TYPE_CHECKING:
    import keras

RUN_FILE = "run.json"
START_WEIGHTS = "start.weights.h5"
CALIBRATION = "calibration.json"
TRAIN = "train.csv"
OLD = "old.csv"
VALIDATION = "validation.csv"
HISTORY = "history.jsonl"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
BEST_WEIGHTS = "best.weights.h5"
EVALUATION = "evaluation.json"
TEST = "test.json"
SETS = "sets"
EMBEDDINGS = "embeddings.npz"
REPORT = "report.html"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file of a run in one step."""
    write_atomically(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file of a run; None where it was not written.

    Raises:
        TrainingError: it can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f"{path} can't be read: {error}. Start a new run.") from error


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a run.

    Raises:
        TrainingError: if the folder holds no run, or a damaged one.
    """
    record = read_json(folder / RUN_FILE)
    if record is None:
        raise TrainingError(
            f"There is no training run in {folder}: it has no {RUN_FILE}. Name the folder that train_mildnet made."
        )
    return record


def save_weights(model: keras.Model, path: Path) -> None:
    """Write a model's weights, in place of those before them.

    Raises:
        TrainingError: if the disk has no room or the folder can't be written.
    """
    try:
        with replacement(path) as part:
            model.save_weights(part)
    except OSError as error:
        raise TrainingError(
            f"The weights can't be written to {path.parent}: {error}. Make room, then go on with --resume."
        ) from error


def load_weights(model: keras.Model, path: Path) -> None:
    """Read them back.

    Raises:
        TrainingError: if they are missing, damaged or another model's.
    """
    try:
        load_checked(model, path)
    except WeightsFileError as error:
        raise TrainingError(f"{path} can't be used: {error}. Start a new run.") from error
