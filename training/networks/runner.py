"""Running a model over many prepared photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


class FixedShape:
    """A function of batches that is compiled for one number of rows.

    Fewer rows are padded, for another shape would be compiled anew, and ``predict`` in a loop leaks memory.

    Args:
        function: takes tensors of ``size`` rows and returns one, or a list of them.
        size: rows of a batch.
    """

    def __init__(self, function: Callable[..., Any], size: int) -> None:
        import tensorflow as tf

        self.size = size

        @tf.function
        def step(*batches: tf.Tensor) -> list[tf.Tensor]:
            results = function(*batches)
            # Keras takes a list of one output for the output.
            return [tf.cast(each, tf.float32) for each in (results if isinstance(results, list) else [results])]

        self._step = step

    def __call__(self, *rows: np.ndarray) -> list[np.ndarray]:
        """What the function makes of ``size`` rows or fewer: ``float32``, as many rows as were given."""
        count = len(rows[0])
        missing = self.size - count
        padded = [np.pad(each, [(0, missing)] + [(0, 0)] * (each.ndim - 1)) if missing else each for each in rows]
        return [result.numpy()[:count] for result in self._step(*padded)]


def inference(model: keras.Model, size: int) -> FixedShape:
    """A model as a function of batches of ``size`` photos, which may be ``uint8``."""
    import tensorflow as tf

    return FixedShape(lambda batch: model(tf.cast(batch, tf.float32), training=False), size)


def extract(
    model: keras.Model,
    photos: Iterable[np.ndarray],
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Apply a model to prepared photos, or to features, one batch in memory at a time.

    Args:
        model: takes ``(B, size, size, 3)``, returns ``(B, d)``.
        photos: ``uint8`` arrays ``(size, size, 3)``; may be a generator.
        batch_size: photos per step.
        progress: called after each batch with the number of photos done.

    Returns:
        ``(n, d)`` ``float32``.
    """
    step = inference(model, batch_size)
    parts = [np.zeros((0, model.output_shape[-1]), dtype=np.float32)]
    done = 0
    for batch in stacked(photos, batch_size):
        parts += step(batch)
        done += len(batch)
        if progress:
            progress(done)
    return np.concatenate(parts)


def stacked(rows: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Arrays of one shape in batches of ``size``; the last may be smaller."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield np.stack(batch)
