"""The assembly line of one model version: claim, read and decode, embed, write, batch after batch.

While the network computes one batch, the next is claimed, read and decoded in threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.catalogue import ImageRow, get_catalogue
from shop_similarity.conf import get_settings
from shop_similarity.embedding import outbox
from shop_similarity.embedding.outbox import Claim
from shop_similarity.embedding.writing import PhotoVector, keep, vectors_of_contents, write_embeddings
from shop_similarity.models import Embedding, ModelVersion
from shop_similarity.photos.decoding import ImageError, content_sha256, open_image, read_bytes
from shop_similarity.photos.file_marks import file_mark
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.workers.embedder import get_embedder
from shop_similarity.workers.identity import worker_name

logger = logging.getLogger(__name__)

_READ_AGAIN_SECONDS = 0.2


@dataclass
class DrainReport:
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


@dataclass
class _Photo:
    """A claimed photo on its way to the network."""

    claim: Claim
    row: ImageRow | None
    # What the version has embedded of it so far.
    embedding: Embedding | None
    mark: str = ""
    digest: str = ""
    pixels: np.ndarray | None = None
    # Why it can't be embedded, for good or for now.
    error: str = ""
    is_passing: bool = False

    @property
    def is_where_it_was(self) -> bool:
        """Whether product and file are what they were when it was embedded."""
        old = self.embedding
        if old is None or old.file_mark != self.mark:
            return False
        return ImageRow(old.image_id, old.product_id, old.file_name) == self.row

    @property
    def is_unchanged(self) -> bool:
        """Whether it shows what it showed when it was embedded, wherever its file is now."""
        if not self.digest:
            return self.is_where_it_was
        return self.embedding is not None and self.embedding.content_sha256 == self.digest


@dataclass
class _Batch:
    photos: list[_Photo] = field(default_factory=list)
    reading: list[Future] = field(default_factory=list)


class Line:
    """The assembly line of one version.

    Args:
        version: what to embed with.
        report: where to count.
        progress: called with the report after every batch.
        stop: ends the line after the batch it is at.
        first_with_work: asked after every batch for the key of the version to be served first; where that is another
            one, the line ends, for a backfill must not hold up new photos.
    """

    def __init__(
        self,
        version: ModelVersion,
        report: DrainReport,
        progress: Callable[[DrainReport], None] | None,
        stop: threading.Event,
        first_with_work: Callable[[], int | None],
    ) -> None:
        settings = get_settings()
        self.version = version
        self.report = report
        self.progress = progress
        self.stop = stop
        self.first_with_work = first_with_work
        self.batch_size = settings.batch_size
        self.limits = catalogue_limits()
        self.preprocessing = Preprocessing.from_dict(version.preprocessing)
        self.storage = get_catalogue().storage
        self.threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="shop-similarity-decode")

    def run(self) -> bool:
        """Embed what waits for the version, until nothing is due or the line has to end; whether there was anything."""
        batch = following = None
        try:
            batch = self._begin()
            had_work = bool(batch.photos)
            while batch.photos:
                # While this batch is computed, the threads read the next.
                following = self._begin() if not self.stop.is_set() else _Batch()
                self._finish(batch)
                if self.progress is not None:
                    self.progress(self.report)
                batch, following = following, None
                if self.stop.is_set() or self.first_with_work() not in (None, self.version.pk):
                    break
            return had_work
        finally:
            self.threads.shutdown(wait=True, cancel_futures=True)
            for left in (batch, following):
                if left is not None and left.photos:
                    self._give_back(left)

    def _give_back(self, batch: _Batch) -> None:
        try:
            outbox.release([photo.claim for photo in batch.photos])
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
        # A replica may not have heard yet of what was saved a moment ago, and would say that it is gone.
        using = database.write_alias()
        rows = {row.image_id: row for row in catalogue.rows(catalogue.images().using(using).filter(pk__in=ids))}
        known = Embedding.objects.using(using).filter(version=self.version, image_id__in=ids)
        embeddings = {row.image_id: row for row in known}
        photos = [_Photo(claim, rows.get(claim.image_id), embeddings.get(claim.image_id)) for claim in claims]
        return _Batch(photos, [self.threads.submit(self._read, photo) for photo in photos if photo.row is not None])

    def _read(self, photo: _Photo) -> None:
        """Read and decode one photo; runs in a thread and never touches the database."""
        self._try_to_read(photo)
        if photo.is_passing:
            # Most faults of a storage are gone a moment later, and a try of the photo lasts much longer.
            time.sleep(_READ_AGAIN_SECONDS)
            photo.error, photo.is_passing = "", False
            self._try_to_read(photo)

    def _try_to_read(self, photo: _Photo) -> None:
        name = photo.row.file_name
        try:
            photo.mark = file_mark(self.storage, name)
            # A file that was just saved may have the size and the time of the one before: storages tell whole seconds.
            if photo.is_where_it_was and not photo.claim.is_saved:
                return
            with self.storage.open(name, "rb") as file:
                content = read_bytes(file, self.limits.max_bytes)
            photo.digest = content_sha256(content)
            if photo.is_unchanged:
                return
            image = open_image(content, self.limits, target_size=self.preprocessing.size)
            photo.pixels = self.preprocessing.prepare(image)
        except ImageError as error:
            photo.error = str(error)
        except FileNotFoundError:
            photo.error = _("The file %(name)s is not in the storage. Upload the photo again.") % {"name": name}
        except Exception as error:
            photo.error = _("The storage could not be read: %(error)s") % {"error": f"{type(error).__name__}: {error}"}
            photo.is_passing = True

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
                self.report.gone += 1
            elif photo.error and photo.is_passing:
                self._try_later(photo.claim, photo.error, file_name=photo.row.file_name)
            elif photo.error:
                outbox.fail(photo.claim, photo.error, file_name=photo.row.file_name, file_mark=photo.mark)
                self.report.failed += 1
                logger.warning("Photo %s can't be embedded: %s", photo.row.file_name, photo.error)
            elif photo.is_unchanged:
                self._keep(photo)
            else:
                ready.append(photo)
            batch.photos.pop(0)
        batch.photos = ready
        if ready:
            self._embed_and_write(ready)
        batch.photos = []

    def _keep(self, photo: _Photo) -> None:
        if keep(self.version.pk, photo.claim, photo.row, photo.mark):
            self.report.unchanged += 1

    def _try_later(self, claim: Claim, error: str, file_name: str = "") -> None:
        if outbox.retry_later(claim, error, file_name=file_name):
            self.report.retried += 1
        else:
            self.report.failed += 1

    def _embed_and_write(self, photos: list[_Photo]) -> None:
        """Compute what the version has no vector of yet, once for all photos with the same bytes, and write it all.

        Another worker may be computing the same bytes: that costs a forward pass and makes the same vector.
        """
        by_digest = {photo.digest: photo for photo in reversed(photos)}
        vectors = vectors_of_contents(self.version.pk, by_digest)
        to_compute = [photo for digest, photo in by_digest.items() if digest not in vectors]
        if to_compute:
            try:
                computed = get_embedder(self.version).embed([photo.pixels for photo in to_compute])
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
            vectors |= {photo.digest: vector for photo, vector in zip(to_compute, computed, strict=True)}
        outcome = write_embeddings(
            self.version.pk,
            [PhotoVector(photo.claim, photo.row, photo.mark, photo.digest, vectors[photo.digest]) for photo in photos],
        )
        computed_ids = {photo.row.image_id for photo in to_compute}
        embedded = sum(photo.row.image_id in computed_ids for photo in outcome.written)
        self.report.embedded += embedded
        self.report.copied += len(outcome.written) - embedded
        self.report.gone += len(outcome.gone)
        self.report.retried += len(outcome.again)
        outbox.release([photo.claim for photo in outcome.again], delay=1)
