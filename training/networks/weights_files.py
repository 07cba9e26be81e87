"""Files of weights that somebody else may have made: looked at before Keras interprets them, and the numbers after.

HDF5 can point out of the file (external links, external and virtual datasets), and say of a few bytes that they are
terabytes (compression, storage that was never written). Files that Keras writes do none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from shop_similarity.training.errors import TrainingError

if TYPE_CHECKING:
    import keras

# The largest network here has some hundreds.
_MOST_ENTRIES = 20_000


class WeightsFileError(TrainingError):
    """A file of weights that is not used; the sentence says what is wrong with it and ends without a full stop."""


def check_weights_file(path: Path) -> None:
    """Refuse an HDF5 file that is more than plain arrays of numbers, each of them stored in full.

    Raises:
        WeightsFileError: it is; or it is no HDF5 file at all.
    """
    try:
        with h5py.File(path, "r") as file:
            left, seen = [file["/"]], 0
            while left:
                group = left.pop()
                for name in group:
                    seen += 1
                    if seen > _MOST_ENTRIES:
                        raise WeightsFileError("it has more parts than any network")
                    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                        raise WeightsFileError(f"{group.name.rstrip('/')}/{name} points somewhere else")
                    entry = group[name]
                    if isinstance(entry, h5py.Group):
                        left.append(entry)
                    else:
                        _check_array(entry)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsFileError(f"it can't be read as HDF5: {str(error).rstrip('.')}") from error


def _check_array(entry: h5py.Dataset) -> None:
    if not isinstance(entry, h5py.Dataset) or entry.dtype.kind not in "fiub":
        raise WeightsFileError(f"{entry.name} holds something else than numbers")
    if entry.is_virtual or entry.external:
        raise WeightsFileError(f"{entry.name} lies in another file")
    if entry.id.get_storage_size() < entry.size * entry.dtype.itemsize:
        raise WeightsFileError(f"{entry.name} is compressed or not all there: save the weights without compression")


def require_finite(model: keras.Model) -> None:
    """Refuse weights of a model that are not finite, by the name of their layer.

    Raises:
        WeightsFileError: some are not.
    """
    for layer in model.layers:
        if not all(np.isfinite(weights).all() for weights in layer.get_weights()):
            raise WeightsFileError(f"its layer {layer.name} holds numbers that are not finite")


def load_checked(model: keras.Model, path: Path) -> None:
    """Give a model the weights in a ``.weights.h5`` file that is looked at before and after.

    Raises:
        WeightsFileError: it can't be used, or is another model's.
    """
    check_weights_file(path)
    try:
        model.load_weights(path)
    # What Keras raises for a file that is not as it expects is nowhere said.
    except Exception as error:
        raise WeightsFileError(f"its weights do not fit the model: {str(error).rstrip('.')}") from error
    require_finite(model)
