"""The embedder: holds the networks of the versions in use in this process and runs them in batches of one size."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shop_similarity.conf import get_settings
from training.preprocessing import Preprocessing

if TYPE_CHECKING:
    from shop_similarity.models import ModelVersion

logger = logging.getLogger(__name__)

_lock = threading.RLock()
# The least recently used first.
_loaded: dict[int, Embedder] = {}


def _share_gpu_memory() -> None:
    """Have TensorFlow take GPU memory as it needs it, not all at once, so that other processes find some."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            # TensorFlow has been used in this process before and has its settings.
            logger.debug("GPU memory growth is settled already.")


class Embedder:
    """One model version, ready to embed.

    The network runs as one compiled function over a batch of fixed size, padded where photos are fewer: a second shape
    would be compiled anew, and ``predict`` in a loop leaks memory.

    Attributes:
        version_id: key of the model version.
        preprocessing: how a photo becomes the network's input.
        batch_size: photos per step.
        dtype_policy: precision of the backbone on this machine.
    """

    def __init__(self, version: ModelVersion, batch_size: int | None = None) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        from training.loading import fast_policy_of, load_version
        from training.precision import dtype_policy

        started = time.monotonic()
        self.version_id = version.pk
        self.preprocessing = Preprocessing.from_dict(version.preprocessing)
        self.batch_size = batch_size or get_settings().batch_size
        _share_gpu_memory()
        self.dtype_policy = fast_policy_of(version)
        with dtype_policy(self.dtype_policy):
            model = load_version(version, cache_dir=get_settings().weights_cache)
        side = self.preprocessing.size
        self._step = tf.function(
            lambda photos: model(tf.cast(photos, tf.float32), training=False),
            input_signature=[tf.TensorSpec((self.batch_size, side, side, 3), tf.uint8)],
        )
        self._model = model
        logger.info(
            "Loaded %s (%s) in %.1f s, computing in %s.",
            version.name,
            version.architecture,
            time.monotonic() - started,
            self.dtype_policy,
        )

    def embed(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """Embed prepared photos.

        Args:
            photos: ``uint8`` arrays of shape ``(size, size, 3)``, as the version's preprocessing makes them.

        Returns:
            ``float32`` array ``(len(photos), 4096)``, each row of length 1.
        """
        rows = []
        for start in range(0, len(photos), self.batch_size):
            chunk = photos[start : start + self.batch_size]
            batch = np.zeros((self.batch_size, *chunk[0].shape), dtype=np.uint8)
            batch[: len(chunk)] = np.stack(chunk)
            rows.append(self._step(batch).numpy()[: len(chunk)])
        if not rows:
            return np.zeros((0, 4096), dtype=np.float32)
        vectors = np.concatenate(rows).astype(np.float32)
        # Half-precision backbones leave lengths a hair off one.
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def get_embedder(version: ModelVersion) -> Embedder:
    """The embedder of a version; this process keeps the last ones that it used, ``MODELS_IN_MEMORY`` of them.

    The active version's is the last to go, since it is what shoppers wait for.
    """
    with _lock:
        embedder = _loaded.pop(version.pk, None)
        if embedder is None:
            _make_room(version)
            embedder = Embedder(version)
        _loaded[version.pk] = embedder
        return embedder


def _make_room(version: ModelVersion) -> None:
    most = get_settings().models_in_memory
    if len(_loaded) < most:
        return
    active = type(version).objects.values_list("pk", flat=True).filter(state=type(version).State.ACTIVE).first()
    # The sort is stable, so the least recently used goes first among the rest.
    by_worth = sorted(_loaded, key=lambda pk: pk == active)
    release_embedder(*by_worth[: len(_loaded) - most + 1])


def keep_only(version_ids: Collection[int]) -> None:
    """Free the models of all other versions, for those that are no longer in use."""
    with _lock:
        if others := [pk for pk in _loaded if pk not in version_ids]:
            release_embedder(*others)


def release_embedder(*version_ids: int) -> None:
    """Free the models of these versions; all that this process holds by default."""
    with _lock:
        if not _loaded:
            return
        for pk in version_ids or list(_loaded):
            _loaded.pop(pk, None)
        if not _loaded:
            # It would take the ground from under models that stay.
            import keras

            keras.backend.clear_session()
        gc.collect()


def embed_image(version: ModelVersion, image: Any) -> np.ndarray:
    """Embed one decoded Pillow image: ``(4096,)`` ``float32``."""
    with _lock:
        embedder = get_embedder(version)
        return embedder.embed([embedder.preprocessing.prepare(image)])[0]
