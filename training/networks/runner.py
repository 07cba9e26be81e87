"""Running a model over many prepared photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def extract(
    model: keras.Model,
    photos: Iterable[np.ndarray],
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Apply a model to prepared photos, one batch in memory at a time.

    Args:
        model: takes ``(B, size, size, 3)``, returns ``(B, d)``.
        photos: ``uint8`` arrays ``(size, size, 3)``; may be a generator.
        batch_size: photos per step; the last batch is padded, since a second shape would be compiled anew.
        progress: called after each batch with the number of photos done.

    Returns:
        ``(n, d)`` ``float32``.
    """
    import tensorflow as tf

    shape = model.input_shape[1:]
    step = tf.function(
        lambda batch: model(tf.cast(batch, tf.float32), training=False),
        input_signature=[tf.TensorSpec((batch_size, *shape), tf.uint8)],
    )
    rows = []
    done = 0
    for chunk in _chunks(iter(photos), batch_size):
        batch = np.zeros((batch_size, *shape), dtype=np.uint8)
        batch[: len(chunk)] = np.stack(chunk)
        rows.append(step(batch).numpy()[: len(chunk)])
        done += len(chunk)
        if progress:
            progress(done)
    if not rows:
        return np.zeros((0, model.output_shape[-1]), dtype=np.float32)
    return np.concatenate(rows).astype(np.float32)


def _chunks(photos: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    while chunk := list(islice(photos, size)):
        yield chunk
