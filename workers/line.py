"""The assembly line of one model version: claim, read and decode, embed, write, batch after batch.

While the network computes one batch, the next is claimed, read and decoded in threads; while a batch is written and
the one after the next is claimed, the network computes the next. So it never waits for the database. A photo that the
shop has just saved waits for no batch of a backfill: the network leaves off, embeds it, and goes on.

From claim to settlement one rule holds. **Whatever goes wrong with a photo counts a try of that photo, and of no
other.** A photo that can never be embedded (its file is damaged, the network makes no usable vector of it) fails at
once with a sentence. Any other exception, at whatever step, has the photos of the batch taken one by one; the ones that
it meets again are tried later, ``MAX_ATTEMPTS`` times in all, and the others pass. So no batch is met for ever. What
does not count is a database that is away, busy or full (:func:`shop_similarity.database.is_away`): it ends the line,
and the photos go back with their tries uncounted, as they do where somebody ends the worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
from django.utils import timezone
from django.utils.translation import gettext as _

from shop_similarity import database, meters
from shop_similarity.catalogue import ImageRow, get_catalogue
from shop_similarity.conf import get_settings
from shop_similarity.embedding import heartbeat, outbox
from shop_similarity.embedding.outbox import Claim
from shop_similarity.embedding.planner_statistics import bring_up_to_date
from shop_similarity.embedding.writing import PhotoVector, forget, keep, vectors_of_contents, write_embeddings
from shop_similarity.models import Embedding, ModelVersion
from shop_similarity.photos.decoding import DecoderUnavailable, ImageError, content_sha256, open_image, read_bytes
from shop_similarity.photos.file_marks import file_mark
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.photos.storage_faults import final_sentence, passing_sentence
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.workers.embedder import Embedder, UnusableVectors, get_embedder
from shop_similarity.workers.identity import worker_name

logger = logging.getLogger(__name__)

_READ_AGAIN_SECONDS = 0.2
# While the network computes a batch of a backfill, what the shop has saved is looked for so often.
_LOOK_SECONDS = 0.5
# After so many photos Postgres may have to be told how many there are.
_TELL_AFTER = 1_000
# What could not be given back, for the database was away.
_kept_claims: list[Claim] = []


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
    row: ImageRow | None = None
    # What the version has embedded of it so far.
    embedding: Embedding | None = None
    mark: str = ""
    digest: str = ""
    pixels: np.ndarray | None = None
    # Why it can't be embedded, for good or for now.
    error: str = ""
    is_passing: bool = False

    @property
    def its_row(self) -> ImageRow:
        """The row of a photo that the shop still has."""
        assert self.row is not None
        return self.row

    @property
    def its_pixels(self) -> np.ndarray:
        """What the network is fed with, of a photo that was read."""
        assert self.pixels is not None
        return self.pixels

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
    """What was claimed at once.

    Attributes:
        photos: those that are not settled yet.
        reading: what goes on in the threads.
        computing: what the network does ahead with it, once that has begun.
        ahead: the prepared photos that it does that with.
        known: hashes of the bytes of which it computes nothing.
        embedder: by which.
        is_overtaken: whether the network leaves off after the step it is at.
    """

    photos: list[_Photo] = field(default_factory=list)
    reading: list[Future] = field(default_factory=list)
    computing: Future | None = None
    ahead: list[np.ndarray] = field(default_factory=list)
    known: frozenset[str] = frozenset()
    embedder: Embedder | None = None
    is_overtaken: bool = False

    @property
    def is_urgent(self) -> bool:
        """Whether so much of a lease is over that the batch has to be written: what is lost then has lost a try."""
        soon = timezone.now() + timedelta(seconds=get_settings().lease_seconds / 2)
        return any(photo.claim.leased_until is not None and photo.claim.leased_until < soon for photo in self.photos)

    def settled(self, photos: Sequence[_Photo]) -> None:
        """These are."""
        # By identity: two photos may be equal.
        gone = {id(photo) for photo in photos}
        self.photos = [photo for photo in self.photos if id(photo) not in gone]


def give_back_kept() -> None:
    """Give back what an earlier line of this process could not, since the database was away."""
    claims = list(_kept_claims)
    if claims:
        outbox.release(claims)
        del _kept_claims[: len(claims)]


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
        self.network = ThreadPoolExecutor(1, thread_name_prefix="shop-similarity-network")
        self.ending = threading.Event()
        # The batch behind the one at hand, and one of saved photos that overtakes it.
        self.following: _Batch | None = None
        self.saved = _Batch()
        self.told_at = report.settled
        self.counted = {outcome: getattr(report, outcome) for outcome in meters.OUTCOMES}

    def run(self) -> bool:
        """Embed what waits for the version, until nothing is due or the line has to end; whether there was anything."""
        batch = following = None
        is_photos_fault = False
        try:
            batch = self._begin()
            had_work = bool(batch.photos)
            while batch.photos:
                # While this batch is computed, the threads read the next.
                following = self.following = self._begin() if not self.stop.is_set() else _Batch()
                self._finish(batch)
                self._count()
                heartbeat.beat(worker_name())
                self._tell_postgres()
                if self.progress is not None:
                    self.progress(self.report)
                batch, following = following, None
                if self.stop.is_set() or self.first_with_work() not in (None, self.version.pk):
                    break
            return had_work
        except Exception as error:
            is_photos_fault = not database.is_away(error)
            raise
        finally:
            self.ending.set()
            self._count()
            self.threads.shutdown(wait=True, cancel_futures=True)
            self.network.shutdown(wait=True, cancel_futures=True)
            for left in (self.saved, batch, following):
                if left is not None:
                    self._forget_ahead(left)
                if left is not None and left.photos:
                    self._give_back(left, count_attempt=is_photos_fault)

    def _tell_postgres(self) -> None:
        """Have it plan by what the version has now."""
        if self.report.settled >= self.told_at:
            bring_up_to_date(self.version.pk)
            self.told_at = self.report.settled + _TELL_AFTER

    def _count(self) -> None:
        """Tell the meters what has become of photos since they were told last."""
        for outcome in meters.OUTCOMES:
            number = getattr(self.report, outcome)
            meters.count_photos(outcome, number - self.counted[outcome])
            self.counted[outcome] = number

    def _give_back(self, batch: _Batch, *, count_attempt: bool = False) -> None:
        claims = [photo.claim for photo in batch.photos]
        try:
            outbox.release(claims, count_attempt=count_attempt)
        except Exception:
            # Without a database nothing can be given back now; if this process never can, the lease ends by itself.
            _kept_claims.extend(claims)
            logger.debug("Claims could not be given back.", exc_info=True)

    def _begin(self, *, saved: bool = False) -> _Batch:
        """Claim a batch and have the threads read it; with ``saved`` of nothing but what the shop has saved."""
        claims = outbox.claim(self.version.pk, self.batch_size, worker_name(), saved=saved)
        batch = _Batch([_Photo(claim) for claim in claims])
        try:
            self._apart(batch, batch.photos, self._look_up)
        except BaseException as error:
            self._give_back(batch, count_attempt=isinstance(error, Exception) and not database.is_away(error))
            raise
        batch.reading = [self.threads.submit(self._read, photo) for photo in batch.photos if photo.row is not None]
        return batch

    def _look_up(self, batch: _Batch, photos: Sequence[_Photo]) -> None:
        """Find the rows of photos, and what the version has of them."""
        ids = [photo.claim.image_id for photo in photos]
        if not ids:
            return
        catalogue = get_catalogue()
        # A replica may not have heard yet of what was saved a moment ago, and would say that it is gone.
        using = database.write_alias()
        rows = {row.image_id: row for row in catalogue.rows(catalogue.images().using(using).filter(pk__in=ids))}
        known = Embedding.objects.using(using).filter(version=self.version, image_id__in=ids)
        embeddings = {row.image_id: row for row in known}
        for photo in photos:
            photo.row = rows.get(photo.claim.image_id)
            photo.embedding = embeddings.get(photo.claim.image_id)

    def _apart(self, batch: _Batch, photos: Sequence[_Photo], step: Callable[[_Batch, Sequence[_Photo]], None]) -> None:
        """Take a step with photos. Where it raises, take it with each of them alone; one that raises then is tried
        later. Only a database that is away is raised.
        """
        try:
            step(batch, photos)
            return
        except Exception as error:
            if database.is_away(error):
                raise
            if len(photos) == 1:
                name = photos[0].row.file_name if photos[0].row is not None else photos[0].claim.image_id
                logger.exception(
                    "Photo %s could not be embedded; it is tried again.", name, extra=self._fields(photos[0])
                )
                self._try_later(batch, photos[0], f"{type(error).__name__}: {error}")
                return
            logger.warning(
                "A batch failed (%s); its photos are taken one by one.", error, extra={"version": self.version.name}
            )
        left = {id(photo) for photo in batch.photos}
        for photo in photos:
            # The step may have settled some before it raised.
            if id(photo) in left:
                self._apart(batch, [photo], step)

    def _read(self, photo: _Photo) -> None:
        """Read and decode one photo; runs in a thread and never touches the database."""
        with database.stored_language():
            self._try_twice(photo)

    def _try_twice(self, photo: _Photo) -> None:
        self._try_to_read(photo)
        if photo.is_passing:
            # Most faults of a storage are gone a moment later, and a try of the photo lasts much longer.
            time.sleep(_READ_AGAIN_SECONDS)
            photo.error, photo.is_passing = "", False
            self._try_to_read(photo)

    def _try_to_read(self, photo: _Photo) -> None:
        name = photo.its_row.file_name
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
        except DecoderUnavailable as error:
            photo.error, photo.is_passing = str(error), True
        except Exception as error:
            final = final_sentence(error, name)
            photo.error, photo.is_passing = final or passing_sentence(error), not final

    def _finish(self, batch: _Batch) -> None:
        for future in batch.reading:
            future.result()
        while batch.computing is not None and not wait([batch.computing], _LOOK_SECONDS).done:
            self._let_saved_pass(batch)
        for photo in list(batch.photos):
            self._apart(batch, [photo], self._settle_unread)
        if batch.photos:
            self._apart(batch, list(batch.photos), self._embed_and_write)
        self._forget_ahead(batch)

    def _let_saved_pass(self, batch: _Batch) -> None:
        """Embed what the shop has saved before the rest of a batch of a backfill."""
        if any(photo.claim.is_saved for photo in batch.photos) or batch.is_urgent:
            return
        if not outbox.has_saved(self.version.pk):
            return
        following, self.following = self.following, None
        batch.is_overtaken = True
        try:
            self.saved = self._begin(saved=True)
            self._finish(self.saved)
        finally:
            self.following = following
        assert batch.computing is not None
        batch.computing.result()
        batch.computing, batch.is_overtaken = None, False
        self._begin_computing(batch, batch.known)

    def _forget_ahead(self, batch: _Batch) -> None:
        """Drop what the network made of photos that needed nothing of it, for another has the same bytes."""
        if batch.embedder is not None:
            batch.embedder.forget_ahead(batch.ahead)

    def _begin_computing(self, batch: _Batch | None, known: Collection[str]) -> None:
        """Have the network compute a batch whose photos are read or still being read."""
        if batch is None or batch.computing is not None or not batch.reading:
            return
        batch.embedder, batch.known = get_embedder(self.version), frozenset(known)
        batch.computing = self.network.submit(self._compute_ahead, batch)

    def _compute_ahead(self, batch: _Batch) -> None:
        """Compute photos of a batch, one of those with the same bytes; runs in a thread.

        Whatever goes wrong with it comes again where the batch is settled, and counts there.
        """
        with database.stored_language(), suppress(Exception):
            for future in batch.reading:
                future.result()
            by_digest = {
                photo.digest: photo.pixels
                for photo in reversed(batch.photos)
                if photo.pixels is not None and not photo.error and photo.digest not in batch.known
            }
            batch.ahead = list(by_digest.values())
            assert batch.embedder is not None
            batch.embedder.compute_ahead(batch.ahead, lambda: batch.is_overtaken or self.ending.is_set())

    def _settle_unread(self, batch: _Batch, photos: Sequence[_Photo]) -> None:
        """Settle a photo that the network has nothing to do with."""
        (photo,) = photos
        if photo.row is None:
            # By raw SQL, or its file field is empty: its vector must not outlive it.
            if forget(self.version.pk, photo.claim):
                self.report.gone += 1
        elif photo.error and photo.is_passing:
            self._try_later(batch, photo, photo.error, photo.row.file_name)
        elif photo.error:
            self._fail(batch, photo, photo.error)
        elif photo.is_unchanged:
            self._keep(photo)
        else:
            return
        batch.settled(photos)

    def _keep(self, photo: _Photo) -> None:
        if keep(self.version.pk, photo.claim, photo.its_row, photo.mark):
            self.report.unchanged += 1

    def _fail(self, batch: _Batch, photo: _Photo, error: str) -> None:
        outbox.fail(photo.claim, error, file_name=photo.its_row.file_name, file_mark=photo.mark)
        batch.settled([photo])
        self.report.failed += 1
        logger.warning("Photo %s can't be embedded: %s", photo.its_row.file_name, error, extra=self._fields(photo))

    def _fields(self, photo: _Photo) -> dict[str, str]:
        """What a record of the log says of a photo beside its sentence."""
        fields = {"version": self.version.name, "photo": str(photo.claim.image_id)}
        return fields | {"product": str(photo.row.product_id)} if photo.row is not None else fields

    def _try_later(self, batch: _Batch, photo: _Photo, error: str, file_name: str = "") -> None:
        is_waiting = outbox.retry_later(photo.claim, error, file_name=file_name)
        batch.settled([photo])
        if is_waiting:
            self.report.retried += 1
        else:
            self.report.failed += 1

    def _embed_and_write(self, batch: _Batch, photos: Sequence[_Photo]) -> None:
        """Compute what the version has no vector of yet, once for all photos with the same bytes, and write it all.

        Another worker may be computing the same bytes: that costs a forward pass and makes the same vector.
        """
        by_digest = {photo.digest: photo for photo in reversed(photos)}
        vectors = vectors_of_contents(self.version.pk, by_digest)
        to_compute = [photo for digest, photo in by_digest.items() if digest not in vectors]
        if to_compute:
            try:
                computed = get_embedder(self.version).embed([photo.its_pixels for photo in to_compute])
            except UnusableVectors as error:
                digests = {to_compute[place].digest for place in error.places}
                for photo in photos:
                    if photo.digest in digests:
                        self._fail(batch, photo, str(error))
                if others := [photo for photo in photos if photo.digest not in digests]:
                    self._embed_and_write(batch, others)
                return
            vectors |= {photo.digest: vector for photo, vector in zip(to_compute, computed, strict=True)}
        self._begin_computing(self.following, by_digest)
        outcome = write_embeddings(
            self.version.pk,
            [
                PhotoVector(photo.claim, photo.its_row, photo.mark, photo.digest, vectors[photo.digest])
                for photo in photos
            ],
        )
        again = {item.row.image_id for item in outcome.again}
        batch.settled([photo for photo in photos if photo.its_row.image_id not in again])
        computed_ids = {photo.its_row.image_id for photo in to_compute}
        embedded = sum(photo.row.image_id in computed_ids for photo in outcome.written)
        self.report.embedded += embedded
        self.report.copied += len(outcome.written) - embedded
        self.report.gone += len(outcome.gone)
        for photo in photos:
            if photo.its_row.image_id in again:
                self._try_later(batch, photo, _("The shop was changing this photo while it was embedded."))
