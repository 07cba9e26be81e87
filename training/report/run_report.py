"""The report and the projector's files of a run, from what its folder holds: nothing is computed again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.evaluation.catalogue_sets import INSTANCE, LOOK_ALIKE
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet, RetrievalSetError
from shop_similarity.training.evaluation.validation import Validation
from shop_similarity.training.files import read_arrays
from shop_similarity.training.learning.checkpoints import states
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
from shop_similarity.training.triplets.table import TripletError, Triplets, read_triplets


def write_run_report(folder: Path) -> Path:
    """Write ``report.html`` and TensorBoard's projector.

    Photos are shown as far as they are still where they were.

    Raises:
        TrainingError: if there is no run, or a file can't be written.
        ValueError: if a file of the run is damaged.
    """
    record = read_run(folder)
    parts: dict[str, Any] = {}
    embeddings, places = stored_embeddings(folder)
    try:
        if embeddings is not None:
            parts |= _triplets(folder, record, embeddings, places)
            parts |= _retrieval_set("look_alike", LOOK_ALIKE, folder, record, embeddings, places)
            parts |= _retrieval_set("retrieval", INSTANCE, folder, record, embeddings, places)
            write_projector(folder / TENSORBOARD, embeddings, list(places))
        if newest := states(folder / CHECKPOINTS):
            parts["best_epoch"] = newest[0]["progress"]["best_epoch"]
        return write_report(folder / REPORT, Report.of_folder(folder, **parts))
    except OSError as error:
        raise TrainingError(f"The report can't be written to {folder}: {error}.") from error


def stored_embeddings(folder: Path) -> tuple[np.ndarray | None, dict[Path, int]]:
    """``(n, d)`` embeddings of a run's validation photos by its best epoch, and the row of each photo.

    None where it was not evaluated.

    Raises:
        TrainingError: they can't be read.
    """
    path = folder / EMBEDDINGS
    try:
        stored = read_arrays(path)
        names = [Path(name) for name in stored["paths"].tolist()]
        embeddings = stored["embeddings"].astype(np.float32)
        if not np.isfinite(embeddings).all():
            raise ValueError("it holds numbers that are not finite; --resume measures the run anew")
        return embeddings, {name: place for place, name in enumerate(names)}
    except FileNotFoundError:
        return None, {}
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path} can't be read: {error}.") from error


def validation_of(folder: Path, record: Mapping[str, Any]) -> Validation:
    """What a run was validated on.

    Raises:
        TripletError, RetrievalSetError, EvaluationError: it is not where it was, or not what it was.
    """
    return Validation(
        _set("retrieval", INSTANCE, folder, record),
        _validation_triplets(folder, record),
        look_alike=_set("look_alike", LOOK_ALIKE, folder, record),
    )


def _validation_triplets(folder: Path, record: Mapping[str, Any]) -> Triplets:
    return read_triplets(folder / VALIDATION, Path(record["validation_root"]))


def _set(name: str, of_shop: str, folder: Path, record: Mapping[str, Any]) -> RetrievalSet | None:
    """The set that was named with an option, or else the one of the shop's products, called ``of_shop``."""
    path, images = record["given"].get(name), record["given"].get("images")
    if not path and (folder / SETS / of_shop).is_dir():
        path, images = folder / SETS / of_shop, Path(record["validation_root"]).parent
    return RetrievalSet.read(path, images, look_alike=name == "look_alike") if path else None


def _triplets(
    folder: Path, record: Mapping[str, Any], embeddings: np.ndarray, places: dict[Path, int]
) -> dict[str, Any]:
    try:
        triplets = _validation_triplets(folder, record)
        chosen = [places[path.resolve()] for path in triplets.paths()]
    # Photos that have been moved since are no reason to go without curves and figures.
    except (TripletError, KeyError):
        return {}
    return {"triplets": triplets, "triplet_embeddings": embeddings[chosen]}


def _retrieval_set(
    name: str, of_shop: str, folder: Path, record: dict[str, Any], embeddings: np.ndarray, places: dict[Path, int]
) -> dict[str, Any]:
    try:
        photos = _set(name, of_shop, folder, record)
        if photos is None:
            return {}
        chosen = [places[path.resolve()] for path in photos.paths]
    except (RetrievalSetError, KeyError):
        return {}
    return {name: photos, f"{name}_embeddings": embeddings[chosen]}
