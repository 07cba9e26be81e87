"""The report and the projector's files of a run, from what its folder holds: nothing is computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.evaluation.catalogue_sets import INSTANCE, LOOK_ALIKE
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet, RetrievalSetError
from shop_similarity.training.files import read_arrays
from shop_similarity.training.learning.checkpoints import CheckpointError, latest
from shop_similarity.training.learning.folder import (
    CHECKPOINTS,
    EMBEDDINGS,
    REPORT,
    SETS,
    TENSORBOARD,
    VALIDATION,
    read_run,
)
from shop_similarity.training.report import Report, write_report
from shop_similarity.training.report.projector import write_projector
from shop_similarity.training.triplets.table import TripletError, read_triplets


def write_run_report(folder: Path) -> Path:
    """Write ``report.html`` and TensorBoard's projector.

    Photos are shown as far as they are still where they were.

    Raises:
        TrainingError: if there is no run, or a file can't be written.
        ValueError: if a file of the run is damaged.
    """
    record = read_run(folder)
    parts: dict[str, Any] = {}
    embeddings, places = _embeddings(folder / EMBEDDINGS)
    try:
        if embeddings is not None:
            parts |= _triplets(folder, record, embeddings, places)
            parts |= _retrieval_set("look_alike", LOOK_ALIKE, folder, record, embeddings, places)
            parts |= _retrieval_set("retrieval", INSTANCE, folder, record, embeddings, places)
            write_projector(folder / TENSORBOARD, embeddings, list(places))
        if (checkpoint := latest(folder / CHECKPOINTS)) is not None:
            parts["best_epoch"] = checkpoint.state["progress"]["best_epoch"]
        return write_report(folder / REPORT, Report.of_folder(folder, **parts))
    except (OSError, CheckpointError) as error:
        raise TrainingError(f"The report can't be written to {folder}: {error}.") from error


def _embeddings(path: Path) -> tuple[np.ndarray | None, dict[Path, int]]:
    try:
        stored = read_arrays(path)
        names = [Path(name) for name in stored["paths"].tolist()]
        return stored["embeddings"].astype(np.float32), {name: place for place, name in enumerate(names)}
    # A run that was not evaluated has none.
    except FileNotFoundError:
        return None, {}
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path} can't be read: {error}.") from error


def _triplets(folder: Path, record: dict[str, Any], embeddings: np.ndarray, places: dict[Path, int]) -> dict[str, Any]:
    try:
        triplets = read_triplets(folder / VALIDATION, Path(record["validation_root"]))
        chosen = [places[path.resolve()] for path in triplets.paths()]
    # Photos that have been moved since are no reason to go without curves and figures.
    except (TripletError, KeyError):
        return {}
    return {"triplets": triplets, "triplet_embeddings": embeddings[chosen]}


def _retrieval_set(
    name: str, of_shop: str, folder: Path, record: dict[str, Any], embeddings: np.ndarray, places: dict[Path, int]
) -> dict[str, Any]:
    """The set that was named with an option, or else the one of the shop's products, called ``of_shop``."""
    path, images = record["given"].get(name), record["given"].get("images")
    if not path and (folder / SETS / of_shop).is_dir():
        path, images = folder / SETS / of_shop, Path(record["validation_root"]).parent
    if not path:
        return {}
    try:
        photos = RetrievalSet.read(path, images, look_alike=name == "look_alike")
        chosen = [places[path.resolve()] for path in photos.paths]
    except (RetrievalSetError, KeyError):
        return {}
    return {name: photos, f"{name}_embeddings": embeddings[chosen]}
