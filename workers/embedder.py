"""The embedder: holds the networks of the versions in use in this process and runs them, shoppers' photos first."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from django.utils.translation import gettext as _

from shop_similarity.conf import get_settings
from shop_similarity.embedding.vectors import EMBEDDING_DIM, unusable_rows
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.workers.runtimes.choice import get_runtime
from shop_similarity.workers.runtimes.interface import EXACT, Step

if TYPE_CHECKING:
    from shop_similarity.models import ModelVersion

logger = logging.getLogger(__name__)

_lock = threading.RLock()
# Loading takes seconds, in which what is loaded already must be found; one at a time, for memory and Keras's policy.
_loading = threading.RLock()
# The least recently used first.
_loaded: dict[int, Embedder] = {}

# After so many photos of shoppers a batch gets its step, or a busy hour would stop the outbox.
_URGENT_IN_A_ROW = 8


class _Turns:
    """One computation at a time, and a shopper's before the next step of a batch.

    Side by side they would share the same cores, and the shopper would wait longer than for the end of a step.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = False
        self._urgent_waiting = 0
        self._urgent_done = 0
        self._owner = 0

    @contextmanager
    def take(self, *, urgent: bool) -> Iterator[None]:
        # A shopper's photo is computed by two networks, one after the other, and nothing comes between them.
        if self._owner == threading.get_ident():
            yield
            return
        with self._changed:
            done_before = self._urgent_done
            self._urgent_waiting += urgent
            try:
                while self._busy or (
                    not urgent and self._urgent_waiting and self._urgent_done - done_before < _URGENT_IN_A_ROW
                ):
                    self._changed.wait()
                self._busy = True
                self._owner = threading.get_ident()
            finally:
                self._urgent_waiting -= urgent
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._owner = 0
                self._urgent_done += urgent
                self._changed.notify_all()


_turns = _Turns()


def urgent_turn() -> AbstractContextManager[None]:
    """The turn of somebody who waits for a photo: all that is computed within follows without a step between."""
    return _turns.take(urgent=True)


class UnusableVectors(Exception):
    """The network made no vector of some photos that could be searched with: its numbers are not finite, or all 0.

    Attributes:
        places: of these photos in what was to be embedded.
    """

    def __init__(self, places: Collection[int]) -> None:
        super().__init__(
            _(
                "The network makes no usable vector of this photo: its numbers are not finite, or all 0. Upload "
                "another photo. If many photos fail like this, the version is damaged: go back with `manage.py "
                "rollback_model` or make a new one."
            )
        )
        self.places = tuple(places)


class Embedder:
    """One model version, ready to embed.

    The runtime (:mod:`shop_similarity.workers.runtimes.interface`) computes steps of a fixed size. A second function
    takes one photo, for a shopper who waits for it. Half precision may overflow where float32 does not, so a photo of
    which no usable vector comes out is tried once more in float32; the network in that precision is loaded when it is
    first needed.

    Attributes:
        version_id: key of the model version.
        preprocessing: how a photo becomes the network's input.
        batch_size: photos that are claimed at once.
        step_size: photos that are computed at once, no more than ``batch_size``.
        precision: of the backbone on this machine.
    """

    def __init__(self, version: ModelVersion, batch_size: int | None = None) -> None:
        started = time.monotonic()
        runtime = get_runtime()
        self.version_id = version.pk
        self.preprocessing = Preprocessing.from_dict(version.preprocessing)
        self.batch_size = batch_size or get_settings().batch_size
        self._network = runtime.load(version)
        self.precision = self._network.precision
        self.step_size = min(self.batch_size, self._network.step_size)
        self._step = self._network.step(self.step_size)
        self._single = self._network.step(1)
        self._is_warm = False
        # By the identity of each photo: it, which keeps that its own, and its row.
        self._ahead: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._version = version
        self._exact: Step | None = self._single if self.precision == EXACT else None
        logger.info(
            "Loaded %s (%s) in %.1f s, computed by %s in %s.",
            version.name,
            version.architecture,
            time.monotonic() - started,
            runtime.name,
            self.precision,
            extra={"version": version.name},
        )

    def embed(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """Embed prepared photos.

        Args:
            photos: ``uint8`` arrays of shape ``(size, size, 3)``, as the version's preprocessing makes them.

        Returns:
            ``float32`` array ``(len(photos), 4096)``, each row of length 1.

        Raises:
            UnusableVectors: of some photos no such row comes out.
        """
        if not len(photos):
            return np.zeros((0, EMBEDDING_DIM), dtype=np.float32)
        done = [self._ahead.pop(id(photo), None) for photo in photos]
        rows = self._rows([photo for photo, known in zip(photos, done, strict=True) if known is None])
        vectors = [next(rows) if known is None else known[1] for known in done]
        return self._usable(np.stack(vectors), photos, urgent=False)

    def _rows(self, photos: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for start in range(0, len(photos), self.step_size):
            batch = np.stack(photos[start : start + self.step_size])
            with _turns.take(urgent=False):
                rows = self._step(batch)
            yield from rows

    def compute_ahead(self, photos: Sequence[np.ndarray], is_stopped: Callable[[], bool]) -> None:
        """Compute photos for the call of :meth:`embed` that will be given the same arrays, each once.

        Meant for a thread: while who calls ``embed`` writes one batch, the network computes the next.

        Args:
            photos: as for :meth:`embed`.
            is_stopped: asked after each photo whether that was the last one.
        """
        photos = [photo for photo in photos if id(photo) not in self._ahead]
        for photo, row in zip(photos, self._rows(photos), strict=True):
            self._ahead[id(photo)] = photo, row
            if is_stopped():
                break

    def forget_ahead(self, photos: Sequence[np.ndarray]) -> None:
        """Drop what was computed of photos that nobody will ask for."""
        for photo in photos:
            self._ahead.pop(id(photo), None)

    def embed_one(self, photo: np.ndarray) -> np.ndarray:
        """Embed one prepared photo that somebody waits for: before the next step of any batch.

        Args:
            photo: as for :meth:`embed`.

        Returns:
            ``float32`` array ``(4096,)`` of length 1.

        Raises:
            UnusableVectors: no such row comes out.
        """
        with _turns.take(urgent=True):
            rows = self._single(photo[np.newaxis])
        return self._usable(rows, [photo], urgent=True)[0]

    def _usable(self, vectors: np.ndarray, photos: Sequence[np.ndarray], *, urgent: bool) -> np.ndarray:
        """The vectors with length 1, those that are unusable computed in float32."""
        places = unusable_rows(vectors)
        if len(places) and self.precision != EXACT and vectors.shape[1:] == (EMBEDDING_DIM,):
            exact = self._load_exact()
            for place in places:
                with _turns.take(urgent=urgent):
                    (row,) = exact(photos[place][np.newaxis])
                vectors[place] = row
            logger.warning("%d photos overflowed in %s and were tried in float32.", len(places), self.precision)
            places = unusable_rows(vectors)
        if len(places):
            raise UnusableVectors(places.tolist())
        # Half-precision backbones leave lengths a hair off one.
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _load_exact(self) -> Step:
        with _loading:
            if self._exact is None:
                self._exact = get_runtime().load(self._version, EXACT).step(1)
            return self._exact

    def warm_up(self) -> None:
        """Compile the function for one photo, so that no shopper waits for that. Does nothing a second time."""
        if not self._is_warm:
            side = self.preprocessing.size
            with _turns.take(urgent=True):
                self._single(np.zeros((1, side, side, 3), dtype=np.uint8))
            self._is_warm = True


def get_embedder(version: ModelVersion) -> Embedder:
    """The embedder of a version; this process keeps the last ones that it used, ``MODELS_IN_MEMORY`` of them.

    The active version's is the last to go, since it is what shoppers wait for.
    """
    embedder = _find(version)
    if embedder is None:
        with _loading:
            # Another thread may just have loaded it.
            embedder = _find(version)
            if embedder is None:
                with _lock:
                    _make_room(version)
                embedder = Embedder(version)
                with _lock:
                    _loaded[version.pk] = embedder
    return embedder


def _find(version: ModelVersion) -> Embedder | None:
    with _lock:
        embedder = _loaded.pop(version.pk, None)
        if embedder is not None:
            # To the end: it is the one that was used last.
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
        # It would take the ground from under models that stay, and from under one that another thread just builds.
        if not _loaded and "keras" in sys.modules and _loading.acquire(blocking=False):
            try:
                import keras

                keras.backend.clear_session()
            finally:
                _loading.release()
        gc.collect()


def embed_image(version: ModelVersion, image: Any) -> np.ndarray:
    """Embed one decoded Pillow image: ``(4096,)`` ``float32``."""
    embedder = get_embedder(version)
    return embedder.embed_one(embedder.preprocessing.prepare(image))


_complaints: dict[int, tuple[str, float]] = {}


def complain(version: ModelVersion, error: Exception) -> None:
    """Log why a version can't be loaded, but not at every try."""
    said, when = _complaints.get(version.pk, ("", 0.0))
    if said != str(error) or time.monotonic() - when > 600:
        _complaints[version.pk] = (str(error), time.monotonic())
        fields = {"version": version.name}
        logger.error("Model version %s can't be loaded, its photos wait: %s", version.name, error, extra=fields)
