"""Search by photo with real workers: threads of this process first, then processes that are killed and cut off."""

from __future__ import annotations

import io
import json
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest
from django.utils import timezone

from shop_similarity.embedding import outbox
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry, VisualQuery
from shop_similarity.search import SearchOptions
from shop_similarity.search.aspects import store_basis
from shop_similarity.training.networks.questions import Questions
from shop_similarity.visual_search import Busy, Expired, queue, results, submit, wait
from shop_similarity.workers import embedder, visual_queries
from shop_similarity.workers.drain import drain
from tests.shop_similarity.drawn_photos import product_image, product_photo, products
from tests.shop_similarity.factories import add_photo, make_product
from tests.shop_similarity.search.test_aspects import known_basis
from tests.support.waiting import PATIENCE, wait_until
from tests.vectors import random_vectors

QUICK = {"POLL_SECONDS": 600, "SWEEP_SECONDS": 0, "SWEEP_FILES_SECONDS": 0, "FALLBACK": None}


@pytest.fixture(autouse=True)
def _fresh_embedder(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "FALLBACK": None}
    embedder.release_embedder()
    visual_queries._failed_loads.clear()
    yield
    embedder.release_embedder()


def _environment(**overrides) -> dict[str, str]:
    return {"SHOP_TEST_SIMILARITY": json.dumps({**QUICK, **overrides})}


def _row(query: VisualQuery) -> VisualQuery:
    return VisualQuery.objects.defer(None).get(pk=query.pk)


@pytest.mark.django_db
class TestInThisProcess:
    def test_one_photo_and_a_batch_give_the_same_vector(self, tiny_version):
        loaded = embedder.get_embedder(tiny_version())
        photos = [loaded.preprocessing.prepare(product_image("mug", colour)) for colour in ("red", "teal", "black")]
        together = loaded.embed(photos)
        alone = np.stack([loaded.embed_one(photo) for photo in photos])
        assert alone.shape == (3, 4096)
        assert (together * alone).sum(axis=1).min() > 0.999
        # Different photos are told apart by it, so the line above says something.
        assert together[0] @ alone[2] < 0.999

    def test_answer_takes_the_photos_place(self, tiny_version):
        version = tiny_version()
        query = submit(io.BytesIO(product_photo("mug", "red")))
        assert _row(query).photo
        assert visual_queries.answer_waiting() == 1
        row = _row(wait(query, 0))
        assert row.photo is None
        assert row.vector is not None
        assert row.version_id == version.pk
        assert visual_queries.answer_waiting() == 0

    def test_the_photo_of_a_product_finds_the_product(self, tiny_version):
        tiny_version()
        shop = []
        for item in products(12):
            product = make_product(item.name)
            add_photo(product, item.photo((300, 300)), f"{item.kind}.jpg")
            shop.append(product)
        drain()
        query = submit(io.BytesIO(products(12)[4].photo((300, 300))))
        visual_queries.answer_waiting()
        found = results(query)
        assert found[0].pk == shop[4].pk
        assert found[0].similarity > 0.99

    def test_a_version_of_two_questions_is_asked_for_the_product(self, tiny_version):
        version = tiny_version(questions=2)
        shop = []
        for item in products(6):
            shop.append(make_product(item.name))
            add_photo(shop[-1], item.photo((300, 300)), f"{item.kind}.jpg")
        drain()
        stored = {each.product_id: np.array(each.vector) for each in Embedding.objects.all()}
        store_basis(version, known_basis())
        query = submit(io.BytesIO(products(6)[4].photo((300, 300))))
        visual_queries.answer_waiting()
        asked = Questions.of(version.config).asked_by_photo(stored[shop[4].pk])
        assert np.allclose(np.array(_row(query).vector), asked, atol=5e-3)
        found = results(query, SearchOptions(explain=True, collapse=False))
        assert {product.pk: product.similarity for product in found} == pytest.approx(
            {key: float(asked @ vector) for key, vector in stored.items()}, abs=5e-3
        )
        # As of any version, a photo's similarity to itself is 1, and what explains it adds up to it.
        assert found[0].pk == shop[4].pk and found[0].similarity == pytest.approx(1, abs=5e-3)
        for product in found:
            assert sum(product.explanation.contributions().values()) == pytest.approx(product.similarity, abs=5e-3)
        leaned = results(query, SearchOptions(lean="colour", explain=True, collapse=False))
        assert {product.pk: product.explanation for product in leaned} == {
            product.pk: product.explanation for product in found
        }

    def test_photo_that_the_network_fails_on_is_not_kept(self, tiny_version, monkeypatch):
        tiny_version()
        query = submit(io.BytesIO(product_photo("mug", "red")))

        def fail(*_args):
            raise RuntimeError("out of memory")

        monkeypatch.setattr(embedder.Embedder, "embed_one", fail)
        visual_queries.answer_waiting()
        with pytest.raises(Expired, match="another one"):
            wait(query, 0)
        assert _row(query).photo is None

    def test_version_retired_while_the_photo_waited_gives_way_to_the_active_one(self, tiny_version):
        old = tiny_version("old", seed=1)
        query = submit(io.BytesIO(product_photo("mug", "red")))
        ModelVersion.objects.filter(pk=old.pk).update(state=ModelVersion.State.RETIRED)
        new = tiny_version("new", seed=2)
        assert visual_queries.answer_waiting() == 1
        assert wait(query, 0).version_id == new.pk

    def test_version_that_cannot_be_loaded_holds_up_no_other(self, tiny_version):
        broken = tiny_version("broken", seed=1)
        first = submit(io.BytesIO(product_photo("mug", "red")))
        broken.weights.storage.delete(broken.weights.name)
        ModelVersion.objects.filter(pk=broken.pk).update(state=ModelVersion.State.STANDBY)
        whole = tiny_version("whole", seed=2)
        second = submit(io.BytesIO(product_photo("mug", "teal")), version=whole)
        assert visual_queries.answer_waiting() == 1
        assert wait(second, 0).version_id == whole.pk
        with pytest.raises(Busy):
            wait(first, 0)

    def test_claim_of_a_dead_worker_ends_and_the_late_one_writes_nothing(self, tiny_version):
        version = tiny_version()
        query = submit(io.BytesIO(product_photo("mug", "red")))
        dead = queue.claim(version)
        assert dead is not None
        assert visual_queries.answer_waiting() == 0
        late = timezone.now() - timedelta(seconds=queue.LEASE_SECONDS + 1)
        VisualQuery.objects.filter(pk=query.pk).update(claimed_at=late)
        assert visual_queries.answer_waiting() == 1
        answer = _row(query).answered_at
        queue.answer(dead, version, random_vectors(1)[0])
        assert _row(query).answered_at == answer


class TestTurns:
    def test_shopper_comes_before_the_next_step_and_batches_are_not_forgotten(self):
        turns = embedder._Turns()
        order: list[str] = []
        began, go_on = threading.Event(), threading.Event()

        def step(name: str, urgent: bool, first: bool = False) -> None:
            with turns.take(urgent=urgent):
                order.append(name)
                if first:
                    began.set()
                    go_on.wait(10)

        threads = [threading.Thread(target=step, args=("under way", False, True))]
        threads[0].start()
        began.wait(PATIENCE)
        threads.append(threading.Thread(target=step, args=("batch", False)))
        threads[1].start()
        shoppers = embedder._URGENT_IN_A_ROW + 4
        threads += [threading.Thread(target=step, args=("shopper", True)) for _number in range(shoppers)]
        for thread in threads[2:]:
            thread.start()
        deadline = time.monotonic() + PATIENCE
        while turns._urgent_waiting < shoppers and time.monotonic() < deadline:
            time.sleep(0.01)
        go_on.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert order[:2] == ["under way", "shopper"]
        assert order.index("batch") >= 1 + embedder._URGENT_IN_A_ROW
        assert len(order) == shoppers + 2


def _wait_until(condition, worker) -> None:
    wait_until(condition, lambda: worker.log)


def _ask(colour: str, seconds: float = 20) -> float:
    """Seconds from the photo to its answer."""
    started = time.monotonic()
    wait(submit(io.BytesIO(product_photo("mug", colour))), seconds)
    return time.monotonic() - started


def _backlog(count: int) -> None:
    product = make_product()
    row = add_photo(product, product_photo("shoe", "blue"))
    OutboxEntry.objects.all().delete()
    for number in range(count):
        add_photo(product, product_photo("shoe", (number % 256, number // 256, 90), size=(32, 32)), f"{number}.jpg")
    assert row.pk


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
class TestWorkerProcesses:
    @pytest.mark.long
    def test_answers_at_once_while_a_backlog_is_drained_and_without_the_broker(
        self, tiny_version, celery_worker_process, valkey
    ):
        tiny_version()
        _backlog(300)
        worker = celery_worker_process(env=_environment(POLL_SECONDS=0.2, BATCH_SIZE=16))
        _wait_until(Embedding.objects.exists, worker)
        # The first one may still find the network being compiled.
        _ask("red")
        times = [_ask(colour) for colour in ("blue", "green")]
        assert outbox.has_due(), "The backlog was over before the shopper asked: make it longer."
        valkey.stop()
        times += [_ask(colour) for colour in ("grey", "pink")]
        assert max(times) < 2, times
        assert not VisualQuery.objects.filter(photo__isnull=False).exists()

    @pytest.mark.long
    def test_another_worker_takes_over_from_one_that_is_killed(self, tiny_version, celery_worker_process):
        version = tiny_version()
        query = submit(io.BytesIO(product_photo("mug", "red")))
        # What a worker leaves behind that is killed at this moment.
        assert queue.claim(version) is not None
        worker = celery_worker_process(env=_environment())
        wait(query, 30)
        worker.kill()
        query = submit(io.BytesIO(product_photo("mug", "teal")))
        with pytest.raises(Busy):
            wait(query, 1)
        celery_worker_process("-n", "second@%h", env=_environment())
        wait(query, 30)
        assert _row(query).photo is None

    @pytest.mark.long
    def test_pool_of_processes_answers_and_its_parent_stays_free_of_tensorflow(
        self, tiny_version, celery_worker_process
    ):
        tiny_version()
        # Celery takes "prefork" for its own default and then follows the app's configuration; this is its other name.
        worker = celery_worker_process("--pool", "processes", "--concurrency", "2", env=_environment())
        assert "(prefork)" in worker.log
        _ask("red", 60)
        assert _ask("blue") < 2
        has_tensorflow = [
            "libtensorflow" in Path(f"/proc/{process.pid}/maps").read_text()
            for process in [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
        ]
        assert not has_tensorflow[0]
        assert sum(has_tensorflow) == 1, "Each process that holds the network takes its memory once more."
        assert worker.stop(timeout=30) == 0
