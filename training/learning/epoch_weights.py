"""The weights of single epochs, by name: ``weights/epoch-003.weights.h5`` in the folder of a run.

An epoch's file is written before the checkpoint that may call it the best, and goes when no checkpoint does so any
more; ``best.weights.h5`` is set after the checkpoint. So however a run ends, the best epoch that its newest checkpoint
knows is there, and no other one is taken for it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.files import part_beside, replacement
from shop_similarity.training.learning.folder import BEST_WEIGHTS, load_weights, save_weights

if TYPE_CHECKING:
    import keras

WEIGHTS = "weights"
_NAME = re.compile(r"epoch-(\d{3,})\.weights\.h5")


def path_of(folder: Path, epoch: int) -> Path:
    """Where the weights of an epoch lie if they are kept; 0 is the start."""
    return folder / WEIGHTS / f"epoch-{epoch:03d}.weights.h5"


def kept_epochs(folder: Path) -> list[int]:
    """Epochs whose weights are there, ascending."""
    matches = (_NAME.fullmatch(path.name) for path in (folder / WEIGHTS).glob("epoch-*"))
    return sorted(int(match[1]) for match in matches if match)


def keep(model: keras.Model, folder: Path, epoch: int) -> None:
    """Write the weights of an epoch.

    Raises:
        TrainingError: if the disk has no room or the folder can't be written.
    """
    save_weights(model, path_of(folder, epoch))


def load(model: keras.Model, folder: Path, epoch: int) -> None:
    """Give a model the weights of an epoch.

    Raises:
        TrainingError: they are not kept, damaged or another model's.
    """
    path = path_of(folder, epoch)
    if not path.is_file():
        known = ", ".join(map(str, kept_epochs(folder))) or "none"
        raise TrainingError(
            f"{folder} does not hold the weights of epoch {epoch}, but of {known}. Train with --keep-epochs to have "
            "more of them kept."
        )
    load_weights(model, path)


def set_best(folder: Path, epoch: int) -> None:
    """Have ``best.weights.h5`` be the weights of this epoch.

    Raises:
        TrainingError: they are not there, or can't be linked or copied.
    """
    source, best = path_of(folder, epoch), folder / BEST_WEIGHTS
    if not source.is_file():
        raise TrainingError(f"{source}, the best epoch's weights, is missing. Put it back, or start a new run.")
    try:
        try:
            with part_beside(best) as part:
                part.unlink()
                os.link(source, part)
                part.replace(best)
        # Not every disk knows links.
        except OSError:
            with replacement(best) as part:
                shutil.copyfile(source, part)
    except OSError as error:
        raise TrainingError(
            f"{best} can't be written: {error.strerror or error}. Make room or make the folder writable, then go on "
            "with --resume."
        ) from error


def prune(folder: Path, last: int, needed: Collection[int], newest: int) -> None:
    """Delete the weights of all epochs but those that are needed and the ``newest`` ones.

    Args:
        folder: of the run.
        last: the last epoch that it has made. Later ones are of a process that was killed before it wrote them down.
        needed: epochs that some checkpoint calls the best.
        newest: how many more are kept.
    """
    for epoch in kept_epochs(folder):
        if epoch > last or (epoch not in needed and epoch <= last - newest):
            path_of(folder, epoch).unlink(missing_ok=True)
