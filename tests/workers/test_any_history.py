"""Any history of a shop, drawn by hypothesis, with workers that fail at any statement, read or batch.

The workers are this process: two may have photos in hand, and one may go on long after its lease has ended. The same
invariant as in ``tests/chaos``, where real processes are killed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from catalog.models import Product, ProductPhoto
from shop_similarity import database, rollout
from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry, SweepRun
from shop_similarity.photos.decoding import open_image
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.workers import drain as drain_module
from shop_similarity.workers import embedder
from shop_similarity.workers.drain import drain
from shop_similarity.workers.embedder import get_embedder
from shop_similarity.workers.line import DrainReport, Line
from tests.chaos import invariant
from tests.chaos.actions import jpeg
from tests.shop_similarity.factories import add_photo, make_product

_State = ModelVersion.State
# Few pictures, so that photos share bytes.
PICTURES = st.integers(0, 5)
PLACES = st.integers(0, 7)


class ShopAndWorkers(RuleBasedStateMachine):
    """A shop with two versions."""

    versions: tuple[ModelVersion, ModelVersion]

    def __init__(self) -> None:
        super().__init__()
        self.unseen: set[int] = set()
        # Workers that have read a batch and not written it yet.
        self.at_work: list[tuple[Line, object]] = []

    @initialize()
    def begin(self) -> None:
        for model in (OutboxEntry, Embedding, SweepRun, ProductPhoto, Product):
            database.raw_delete(model.objects.all())
        one, two = self.versions
        ModelVersion.objects.filter(pk=two.pk).update(state=_State.CANDIDATE, activation_requested_at=None)
        ModelVersion.objects.filter(pk=one.pk).update(state=_State.ACTIVE, activation_requested_at=None)

    # What the shop does

    def _photo(self, place: int) -> ProductPhoto:
        photos = list(ProductPhoto.objects.order_by("pk"))
        return photos[place % len(photos)] if photos else add_photo(make_product(), jpeg(place))

    @rule(picture=PICTURES, others=st.integers(0, 2))
    def create(self, picture: int, others: int) -> None:
        product = make_product()
        for number in range(others + 1):
            add_photo(product, jpeg(picture + number), "photo.jpg")

    @rule(picture=PICTURES)
    def bulk_create(self, picture: int) -> None:
        name = ProductPhoto._meta.get_field("file").storage.save("bulk/photo.jpg", ContentFile(jpeg(picture)))
        ProductPhoto.objects.bulk_create([ProductPhoto(product=make_product(), file=name)])

    @rule(place=PLACES, picture=PICTURES)
    def replace(self, place: int, picture: int) -> None:
        self._write_anew(self._photo(place), picture)

    @rule(place=PLACES, picture=PICTURES)
    def replace_under_another_name(self, place: int, picture: int) -> None:
        self._photo(place).file.save("another.jpg", ContentFile(jpeg(picture)))

    @rule(place=PLACES, picture=PICTURES)
    def replace_silently(self, place: int, picture: int) -> None:
        photo = self._photo(place)
        self.unseen.add(photo.pk)
        Path(photo.file.path).write_bytes(jpeg(picture))

    @rule(place=PLACES, picture=PICTURES, silently=st.booleans())
    def roll_back_edit(self, place: int, picture: int, silently: bool) -> None:
        photo = self._photo(place)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            add_photo(make_product(), jpeg(picture))
            if silently:
                self.unseen.add(photo.pk)
                self._write_anew(photo, picture)
            else:
                photo.delete()
            1 / 0  # noqa: B018

    @rule(place=PLACES)
    def move(self, place: int) -> None:
        photo = self._photo(place)
        photo.product = make_product()
        photo.save()

    @rule(place=PLACES)
    def damage(self, place: int) -> None:
        photo = self._photo(place)
        self._write_anew(photo, 0, content=b"This is no picture.")

    @rule(place=PLACES)
    def delete(self, place: int) -> None:
        self._photo(place).delete()

    @rule(place=PLACES)
    def delete_product(self, place: int) -> None:
        self._photo(place).product.delete()

    def _write_anew(self, photo: ProductPhoto, picture: int, content: bytes | None = None) -> None:
        path = Path(photo.file.path)
        path.unlink(missing_ok=True)
        photo.file.save(path.name, ContentFile(jpeg(picture) if content is None else content))

    # Versions

    @rule(force=st.booleans())
    def activate(self, force: bool) -> None:
        for version in ModelVersion.objects.exclude(state=_State.ACTIVE):
            with contextlib.suppress(rollout.RolloutError):
                rollout.activate(version, force=True, incomplete=force)

    @rule()
    def wish(self) -> None:
        for version in ModelVersion.objects.exclude(state=_State.ACTIVE):
            with contextlib.suppress(rollout.RolloutError):
                rollout.request_activation(version, force=True)

    @rule()
    def go_back(self) -> None:
        with contextlib.suppress(rollout.RolloutError):
            rollout.roll_back()

    @rule()
    def retire(self) -> None:
        for version in ModelVersion.objects.exclude(state=_State.ACTIVE):
            rollout.retire(version)

    # Workers

    @rule()
    def work(self) -> None:
        drain()

    @rule()
    def sweep_rows(self) -> None:
        sweep(files=False)

    @rule(number=st.integers(1, 30))
    def work_until_the_database_is_away(self, number: int) -> None:
        left = number

        def away(execute, sql, params, many, context):
            nonlocal left
            left -= 1
            if left <= 0:
                raise OperationalError("the server closed the connection unexpectedly")
            return execute(sql, params, many, context)

        with connection.execute_wrapper(away), contextlib.suppress(OperationalError):
            drain()

    @rule(number=st.integers(0, 3), every=st.integers(1, 5))
    def work_while_the_storage_fails(self, number: int, every: int) -> None:
        inner, reads = FileSystemStorage._open, iter(range(number + 1, 10_000))

        def read(storage, name, mode="rb"):
            # The network's weights are not what this is about.
            if name.endswith(".h5") or next(reads) % every:
                return inner(storage, name, mode)
            raise ConnectionResetError("the storage hung up")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(FileSystemStorage, "_open", read)
            drain()

    @rule(number=st.integers(1, 3))
    def work_while_the_network_fails(self, number: int) -> None:
        self._work_with(number, self._fail)

    @rule(number=st.integers(1, 3), place=PLACES, picture=PICTURES)
    def work_while_a_photo_is_replaced(self, number: int, place: int, picture: int) -> None:
        photo = self._photo(place)
        self._work_with(number, lambda: self._write_anew(photo, picture))

    @rule(number=st.integers(1, 3), place=PLACES)
    def work_while_a_photo_is_deleted(self, number: int, place: int) -> None:
        photo = self._photo(place)
        self._work_with(number, photo.delete)

    @staticmethod
    def _fail() -> None:
        raise RuntimeError("out of memory")

    def _work_with(self, number: int, happen: Callable[[], object]) -> None:
        """Drain, and have something happen while that batch is computed."""
        inner, batches = embedder.Embedder.embed, iter(range(1, 10_000))

        def embed(network, photos):
            if next(batches) == number:
                happen()
            return inner(network, photos)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(embedder.Embedder, "embed", embed)
            drain()

    @precondition(lambda self: len(self.at_work) < 3)
    @rule(of=st.integers(0, 1))
    def take_a_batch(self, of: int) -> None:
        version = ModelVersion.objects.live().filter(pk=self.versions[of].pk).first()
        if version is None:
            return
        line = Line(version, DrainReport(), None, threading.Event(), lambda: None)
        batch = line._begin()
        for reading in batch.reading:
            reading.result()
        line.threads.shutdown()
        if batch.photos:
            self.at_work.append((line, batch))

    @precondition(lambda self: self.at_work)
    @rule(which=st.integers(0, 2))
    def finish_a_batch(self, which: int) -> None:
        line, batch = self.at_work.pop(min(which, len(self.at_work) - 1))
        line._finish(batch)

    @rule(of=st.integers(0, 1), picture=PICTURES, lease_ends=st.booleans())
    def replace_while_a_slow_worker_is_at_it(self, of: int, picture: int, lease_ends: bool) -> None:
        """Another worker overtakes it, if it can."""
        drain()
        before = len(self.at_work)
        photo = add_photo(make_product(), jpeg(picture + 1), "photo.jpg")
        self.take_a_batch(of)
        self._write_anew(photo, picture)
        if lease_ends:
            self.leases_end()
        self.take_a_batch(of)
        while len(self.at_work) > before:
            self.finish_a_batch(len(self.at_work) - 1)

    @rule()
    def leases_end(self) -> None:
        OutboxEntry.objects.filter(leased_until__isnull=False).update(
            leased_until=timezone.now() - timedelta(seconds=1)
        )

    # Calm

    @rule()
    def calm_down(self) -> None:
        self._settle()
        while self.at_work:
            # Stopped for so long that others have done it all.
            self.finish_a_batch(0)
        self._settle()
        self._check(invariant.look(unseen=self.unseen))
        sweep(files=True)
        self._settle()
        self._check(invariant.look(embed=_embed))
        self.unseen.clear()

    def teardown(self) -> None:
        self.calm_down()

    def _settle(self) -> None:
        self.leases_end()
        sweep(files=False)
        OutboxEntry.objects.filter(failed_at__isnull=True).update(due_at=None)
        drain()
        # What the shop had changed meanwhile waits for a second look.
        OutboxEntry.objects.filter(failed_at__isnull=True).update(due_at=None)
        drain()

    @staticmethod
    def _check(findings: invariant.Findings) -> None:
        assert findings.all == []


def _embed(version: ModelVersion, content: bytes):
    network = get_embedder(version)
    image = open_image(content, catalogue_limits(), target_size=network.preprocessing.size)
    return network.embed([network.preprocessing.prepare(image)])[0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "examples",
    [pytest.param(3, id="few"), pytest.param(60, id="many", marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
)
def test_nothing_is_lost_doubled_or_stale_after_any_history(examples, tiny_version, settings, monkeypatch):
    # A photo on the desk of five workers that died is given up, as it should be; here they do not die of photos.
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "BATCH_SIZE": 2,
        "LEASE_SECONDS": 60,
        "MAX_ATTEMPTS": 100,
    }
    # Loading them anew after each retirement is what would take the time.
    monkeypatch.setattr(drain_module, "keep_only", lambda _keys: None)
    monkeypatch.setattr("shop_similarity.workers.line._READ_AGAIN_SECONDS", 0)
    monkeypatch.setattr("shop_similarity.workers.rollout._REST", 0)
    embedder.release_embedder()
    ShopAndWorkers.versions = (tiny_version("one", seed=7), tiny_version("two", state=_State.CANDIDATE, seed=8))
    run_state_machine_as_test(ShopAndWorkers, settings=_settings(examples))
    embedder.release_embedder()


def _settings(examples: int) -> hypothesis_settings:
    return hypothesis_settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
