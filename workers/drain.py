"""Draining the outbox: claim, read and decode, embed, write, batch after batch until nothing is due.

While the network computes one batch, the next is claimed, read and decoded in threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db import DatabaseError, connection, transaction
from django.utils.translation import gettext as _

from shop_similarity import rollout
from shop_similarity.catalogue import ImageRow, get_catalogue
from shop_similarity.conf import get_settings
from shop_similarity.embedding import outbox
from shop_similarity.embedding.index import build_index, index_state
from shop_similarity.embedding.outbox import Claim
from shop_similarity.embedding.writing import Embedded, known_contents, touch, write_embeddings
from shop_similarity.models import Embedding, ModelVersion
from shop_similarity.photos.decoding import ImageError, content_sha256, open_image, read_bytes
from shop_similarity.photos.file_marks import file_mark
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.workers.embedder import get_embedder, keep_only
from shop_similarity.workers.identity import worker_name

logger = logging.getLogger(__name__)

# Set when this process is asked to end: a drain stops after the batch it is at.
stopping = threading.Event()

_running = threading.Lock()
_again = threading.Event()


@dataclass
class Drained:
    """What a drain did, in photos.

    Attributes:
        embedded: computed by the network and written.
        copied: written with the vector of a photo that has the same bytes.
        unchanged: found as they were embedded before.
        gone: deleted from the shop meanwhile.
        failed: given up, with a sentence on each.
        retried: put back after a passing fault.
        seconds: how long it took.
        unusable: why the network of a version could not be loaded, by the version's name; its photos go on waiting.
    """

    embedded: int = 0
    copied: int = 0
    unchanged: int = 0
    gone: int = 0
    failed: int = 0
    retried: int = 0
    seconds: float = 0.0
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def settled(self) -> int:
        """Photos that wait no longer."""
        return self.embedded + self.copied + self.unchanged + self.gone + self.failed


def drain_unless_running() -> Drained | None:
    """Drain the outbox; where this process is at it already, have that drain look once more instead."""
    _again.set()
    total = None
    while _again.is_set() and _running.acquire(blocking=False):
        try:
            _again.clear()
            total = drain()
        finally:
            _running.release()
    return total


def drain(
    versions: Sequence[int] | None = None,
    *,
    progress: Callable[[Drained], None] | None = None,
    stop: threading.Event = stopping,
) -> Drained:
    """Embed what waits in the outbox until nothing is due or ``stop`` is set.

    Several processes may drain at once, on one machine or on many: each claims its own photos.

    Args:
        versions: keys of the model versions to work for; all live ones by default, in the order of
            :func:`shop_similarity.embedding.outbox.versions_with_work`.
        progress: called after every batch.
        stop: ends the drain after the batch it is at.
    """
    drained = Drained()
    started = time.monotonic()
    worked: set[int] = set()
    unusable: set[int] = set()

    def waiting() -> list[int]:
        return [pk for pk in outbox.versions_with_work() if (versions is None or pk in versions) and pk not in unusable]

    while not stop.is_set():
        # Also before the first photo, for a version may have been waiting for nothing but this.
        _roll_out()
        following = waiting()
        if not following:
            break
        version = ModelVersion.objects.filter(pk=following[0]).first()
        if version is None:
            # Deleted this moment.
            continue
        outbox.give_up_lost(version.pk)
        try:
            # Before anything is claimed: a version that can't be loaded must not use up the tries of its photos.
            get_embedder(version)
        except Exception as error:
            unusable.add(version.pk)
            drained.unusable[version.name] = str(error)
            complain(version, error)
            continue
        worked.add(version.pk)
        _Line(version, drained, progress, stop, waiting).run()
    drained.seconds = time.monotonic() - started
    for pk in worked:
        _index_after_bulk_load(pk, stop)
    keep_only(ModelVersion.objects.live().values_list("pk", flat=True))
    if drained.settled:
        logger.info(
            "Embedded %d photos in %.1f s (%d copied, %d unchanged, %d gone, %d failed, %d to try again).",
            drained.embedded,
            drained.seconds,
            drained.copied,
            drained.unchanged,
            drained.gone,
            drained.failed,
            drained.retried,
        )
    return drained


# Counting what a candidate lacks is cheap, but not so cheap in a shop of millions that a busy worker should do nothing
# else: it embeds for this many times as long before it counts again.
_REST = 5
_next_count = 0.0


def _roll_out() -> None:
    global _next_count
    started = time.monotonic()
    if started < _next_count:
        return
    try:
        rollout.advance()
    except DatabaseError:
        raise
    except Exception:
        # The storage or the index may be in trouble; new photos must not wait for that.
        logger.exception("A roll-out could not be brought on; the worker goes on embedding and tries again.")
    finally:
        _next_count = time.monotonic() + _REST * (time.monotonic() - started)


_complaints: dict[int, tuple[str, float]] = {}


def complain(version: ModelVersion, error: Exception) -> None:
    """Log why a version can't be loaded, but not at every try."""
    said, when = _complaints.get(version.pk, ("", 0.0))
    if said != str(error) or time.monotonic() - when > 600:
        _complaints[version.pk] = (str(error), time.monotonic())
        logger.error("Model version %s can't be loaded, its photos wait: %s", version.name, error)


def _index_after_bulk_load(version_id: int, stop: threading.Event) -> None:
    # Searches don't use the index before INDEX_ROWS, and until it is there a bulk load goes faster without it.
    if stop.is_set() or outbox.has_due(version_id) or index_state(version_id).state not in ("absent", "invalid"):
        return
    enough = get_settings().index_rows // 2
    if Embedding.objects.filter(version=version_id)[enough : enough + 1].exists():
        started = time.monotonic()
        if build_index(version_id):
            logger.info("Built the index of version %d in %.1f s.", version_id, time.monotonic() - started)


@dataclass
class _Photo:
    """A claimed photo on its way to the network."""

    claim: Claim
    row: ImageRow | None
    # (file name, product key, mark, digest) of the embedding that is there already.
    held: tuple | None = None
    mark: str = ""
    digest: str = ""
    pixels: np.ndarray | None = None
    # Why it can't be embedded, for good or for now.
    error: str = ""
    passing: bool = False
    unchanged: bool = False


@dataclass
class _Batch:
    photos: list[_Photo] = field(default_factory=list)
    reading: list[Future] = field(default_factory=list)


class _Line:
    """The assembly line of one version."""

    def __init__(
        self,
        version: ModelVersion,
        drained: Drained,
        progress: Callable[[Drained], None] | None,
        stop: threading.Event,
        waiting: Callable[[], list[int]],
    ) -> None:
        settings = get_settings()
        self.version = version
        self.waiting = waiting
        self.drained = drained
        self.progress = progress
        self.stop = stop
        self.batch_size = settings.batch_size
        self.limits = catalogue_limits()
        self.preprocessing = Preprocessing.from_dict(version.preprocessing)
        self.storage = get_catalogue().storage
        self.threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="shop-similarity-decode")

    def run(self) -> None:
        batch = following = None
        try:
            batch = self._begin()
            while batch.photos:
                # While this batch is computed, the threads read the next.
                following = self._begin() if not self.stop.is_set() else _Batch()
                self._finish(batch)
                if self.progress is not None:
                    self.progress(self.drained)
                batch, following = following, None
                if self.stop.is_set() or not self._is_first():
                    break
        finally:
            self.threads.shutdown(wait=True, cancel_futures=True)
            for left in (batch, following):
                if left is not None and left.photos:
                    self._give_back(left)

    def _is_first(self) -> bool:
        """Whether no version that comes before this one has work, for a backfill must not hold up new photos."""
        waiting = self.waiting()
        return not waiting or waiting[0] == self.version.pk

    def _give_back(self, batch: _Batch) -> None:
        still_claimed = [photo.claim for photo in batch.photos]
        try:
            outbox.release(still_claimed)
        except Exception:
            # Without a database nothing can be given back; the lease ends by itself.
            logger.debug("Claims could not be given back.", exc_info=True)

    def _begin(self) -> _Batch:
        """Claim a batch and have the threads read it."""
        claims = outbox.claim(self.version.pk, self.batch_size, worker_name())
        if not claims:
            return _Batch()
        ids = [claim.image_id for claim in claims]
        catalogue = get_catalogue()
        rows = {row.image_id: row for row in catalogue.rows(catalogue.images().filter(pk__in=ids))}
        held = {
            image_id: values
            for image_id, *values in Embedding.objects.filter(version=self.version, image_id__in=ids).values_list(
                "image_id", "file_name", "product_id", "file_mark", "content_sha256"
            )
        }
        batch = _Batch()
        for claim in claims:
            photo = _Photo(claim, rows.get(claim.image_id), held.get(claim.image_id))
            batch.photos.append(photo)
            if photo.row is not None:
                batch.reading.append(self.threads.submit(self._read, photo))
        return batch

    def _read(self, photo: _Photo) -> None:
        """Read and decode one photo; runs in a thread and never touches the database."""
        row = photo.row
        try:
            photo.mark = file_mark(self.storage, row.file_name)
            if photo.held is not None and tuple(photo.held[:3]) == (row.file_name, row.product_id, photo.mark):
                photo.unchanged = True
                return
            with self.storage.open(row.file_name, "rb") as file:
                content = read_bytes(file, self.limits.max_bytes)
            photo.digest = content_sha256(content)
            if photo.held is not None and photo.held[3] == photo.digest:
                return
            image = open_image(content, self.limits, target_size=self.preprocessing.size)
            photo.pixels = self.preprocessing.prepare(image)
        except ImageError as error:
            photo.error = str(error)
        except FileNotFoundError:
            photo.error = _("The file %(name)s is not in the storage. Upload the photo again.") % {
                "name": row.file_name
            }
        except Exception as error:
            photo.error = _("The storage could not be read: %(error)s") % {"error": f"{type(error).__name__}: {error}"}
            photo.passing = True

    def _finish(self, batch: _Batch) -> None:
        for future in batch.reading:
            future.result()
        ready: list[_Photo] = []
        while batch.photos:
            photo = batch.photos[0]
            if photo.row is None:
                outbox.done(self.version.pk, [photo.claim])
                # The row is gone by raw SQL, or its file field is empty: its vector must not outlive it.
                Embedding.objects.filter(version=self.version, image_id=photo.claim.image_id).delete()
                self.drained.gone += 1
            elif photo.error and photo.passing:
                self._try_later(photo.claim, photo.error)
            elif photo.error:
                outbox.fail(photo.claim, photo.error, file_name=photo.row.file_name, file_mark=photo.mark)
                self.drained.failed += 1
                logger.warning("Photo %s can't be embedded: %s", photo.row.file_name, photo.error)
            elif photo.unchanged or (photo.held is not None and photo.held[3] == photo.digest):
                self._keep(photo)
            else:
                ready.append(photo)
            batch.photos.pop(0)
        batch.photos = ready
        if ready:
            with _sole_embedder(self.version.pk, ready) as (mine, others):
                if others:
                    # Another worker computes the same bytes right now; soon there is a vector to copy.
                    outbox.release([photo.claim for photo in others], delay=1)
                    batch.photos = mine
                self._embed_and_write(mine)
        batch.photos = []

    def _keep(self, photo: _Photo) -> None:
        with transaction.atomic():
            if not photo.unchanged:
                touch(self.version.pk, photo.row, photo.mark)
            outbox.done(self.version.pk, [photo.claim])
        self.drained.unchanged += 1

    def _try_later(self, claim: Claim, error: str) -> None:
        if outbox.retry_later(claim, error):
            self.drained.retried += 1
        else:
            self.drained.failed += 1

    def _embed_and_write(self, photos: list[_Photo]) -> None:
        if not photos:
            return
        known = known_contents(self.version.pk, [photo.digest for photo in photos])
        to_compute: dict[str, _Photo] = {}
        for photo in photos:
            if photo.digest not in known:
                to_compute.setdefault(photo.digest, photo)
        vectors: dict[str, np.ndarray] = {}
        if to_compute:
            try:
                embedder = get_embedder(self.version)
                computed = embedder.embed([photo.pixels for photo in to_compute.values()])
            except Exception as error:
                if len(photos) == 1:
                    logger.exception("The network failed on %s.", photos[0].row.file_name)
                    self._try_later(photos[0].claim, f"{type(error).__name__}: {error}")
                    return
                # Find out which photo it is, and let the others pass.
                logger.warning("A batch failed (%s); its photos are embedded one by one.", error)
                for photo in photos:
                    self._embed_and_write([photo])
                return
            vectors = dict(zip(to_compute, computed, strict=True))
        items = [
            Embedded(photo.claim, photo.row, photo.mark, photo.digest, vectors.get(photo.digest)) for photo in photos
        ]
        result = write_embeddings(self.version.pk, items)
        fresh = {photo.claim.image_id for photo in to_compute.values()}
        for item in result.written:
            if item.row.image_id in fresh:
                self.drained.embedded += 1
            else:
                self.drained.copied += 1
        self.drained.gone += len(result.gone)
        self.drained.retried += len(result.again)
        outbox.release([item.claim for item in result.again], delay=1)


@contextmanager
def _sole_embedder(version_id: int, photos: list[_Photo]) -> Any:
    """Split photos into those this worker may compute and those whose bytes another worker computes right now."""
    mine: list[_Photo] = []
    others: list[_Photo] = []
    digests = sorted({photo.digest for photo in photos})
    locked: list[str] = []
    with connection.cursor() as cursor:
        try:
            for digest in digests:
                cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [version_id % 2**31, digest])
                if cursor.fetchone()[0]:
                    locked.append(digest)
            held = set(locked)
            for photo in photos:
                (mine if photo.digest in held else others).append(photo)
            yield mine, others
        finally:
            for digest in locked:
                cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [version_id % 2**31, digest])
