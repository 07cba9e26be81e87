"""A roll-out and a way back while shoppers look at pages and the shop saves products; worker and web server are real.

``pytest -s tests/workers/test_rollout_under_load.py`` prints the log of it.
"""

from __future__ import annotations

import json
import random
import re
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from catalog.models import Product
from shop_similarity import rollout
from shop_similarity.embedding import bell
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import make_product
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

SHOP = 200
# Half-precision vectors make a cosine uncertain by about this much.
_TOLERANCE = 2e-3


@dataclass
class Answer:
    """What one request brought."""

    began: float
    ended: float
    product: int
    shown: list[int]
    # Only the API says these.
    version: str | None = None
    similarities: tuple[float, ...] = ()


class Traffic:
    """Threads that look at pages, ask the API and save products until they are told to stop."""

    def __init__(self, url: str, known: list[Product], drawn: list) -> None:
        self.url = url
        self.keys = {product.get_absolute_url(): product.pk for product in known}
        self.pages = list(self.keys)
        self.drawn = iter(drawn)
        self.answers: list[Answer] = []
        self.saved: list[tuple[Product, object]] = []
        self.faults: list[str] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(self._look, n)) for n in range(3)]
        self.threads.append(threading.Thread(target=self._work, args=(self._ask, 3)))
        self.threads.append(threading.Thread(target=self._work, args=(self._save, 4)))

    def __enter__(self) -> Traffic:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(timeout=60)

    def _work(self, step: Callable[[random.Random], None], number: int) -> None:
        dice = random.Random(number)
        try:
            while not self.over.is_set():
                step(dice)
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")
        finally:
            connections.close_all()

    def _fetch(self, path: str) -> str:
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            self.faults.append(f"{path}: {error.code}")
            return ""

    def _look(self, dice: random.Random) -> None:
        path = dice.choice(self.pages)
        began = time.monotonic()
        page = self._fetch(path)
        _, _, widget = page.partition('<section class="similar-products')
        shown = [self.keys[href] for href in re.findall(r'<a href="(/product/[^"]+)"', widget.split("</section>")[0])]
        self.answers.append(Answer(began, time.monotonic(), self.keys[path], shown))

    def _ask(self, dice: random.Random) -> None:
        product = self.keys[dice.choice(self.pages)]
        began = time.monotonic()
        body = json.loads(self._fetch(f"/api/similarity/v1/products/{product}/similar/?limit=8") or '{"results": []}')
        shown = [int(row["id"]) for row in body["results"]]
        similarities = tuple(row["similarity"] for row in body["results"])
        self.answers.append(Answer(began, time.monotonic(), product, shown, body.get("version"), similarities))

    def _save(self, dice: random.Random) -> None:
        item = next(self.drawn)
        product = make_product(f"New {item.name}")
        # Known before it can be shown anywhere.
        self.keys[product.get_absolute_url()] = product.pk
        product.photos.create(file=item.photo_file(seed=dice.randrange(10_000)), position=0)
        self.saved.append((product, timezone.now()))
        self.pages.append(product.get_absolute_url())
        self.over.wait(dice.uniform(0.1, 0.3))


class _Log:
    def __init__(self) -> None:
        self.started = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self.started:7.2f} s  {text}", flush=True)


def _until(condition: Callable[[], object], worker) -> None:
    wait_until(condition, lambda: worker.log)


def _similarities(version: ModelVersion) -> tuple[dict[int, int], np.ndarray]:
    """Places of the products and the cosine of the best pair of photos of any two of them."""
    rows = list(Embedding.objects.filter(version=version).defer(None).values_list("product_id", "vector"))
    places = {key: place for place, key in enumerate(sorted({key for key, _vector in rows}))}
    # One photo each, so the best pair is the only one.
    assert len(places) == len(rows)
    vectors = np.zeros((len(places), 4096), dtype=np.float32)
    for key, vector in rows:
        vectors[places[key]] = vector
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return places, vectors @ vectors.T


class Judge:
    """Tells which versions could have given an answer, from the vectors as they are in the end."""

    def __init__(self, versions: list[ModelVersion], originals: set[int]) -> None:
        self.originals = originals
        self.known = {version.name: _similarities(version) for version in versions}

    def versions_of(self, answer: Answer) -> set[str]:
        return {name for name in self.known if self._fits(answer, name)}

    def _fits(self, answer: Answer, name: str) -> bool:
        """Whether the products are in this version's order and none that was there from the start is left out."""
        places, similarity = self.known[name]
        row = similarity[places[answer.product]]
        scores = np.array([row[places[key]] for key in answer.shown])
        if (np.diff(scores) > _TOLERANCE).any():
            return False
        rest = [places[key] for key in self.originals - {answer.product, *answer.shown}]
        if row[rest].max() > scores[-1] + _TOLERANCE:
            return False
        return not answer.similarities or bool(np.allclose(scores, answer.similarities, atol=_TOLERANCE))


@pytest.fixture(autouse=True)
def _bell(settings):
    bell._app.cache_clear()
    # What a page shows is compared with the cosines of one version, so nothing but them may decide.
    plain = {"DIVERSITY": 0.0, "DUPLICATE_SIMILARITY": 2.0}
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **plain, "FALLBACK": None, "SEARCH_RATE": None}
    yield
    bell.flush(5)
    bell._app.cache_clear()


def _measured(value: float) -> dict:
    return {"evaluation": {"set": "s", "retrieval": {"mean_average_precision": value}}}


def test_pages_lose_and_mix_nothing_while_a_version_takes_over_and_back(
    tiny_version, celery_worker_process, live_server
):
    log = _Log()
    old = tiny_version("old", seed=7)
    drawn = products(320)
    shop = [make_product(item.name) for item in drawn[:SHOP]]
    for product, item in zip(shop, drawn, strict=False):
        product.photos.create(file=item.photo_file(), position=0)
    environment = {
        "SHOP_TEST_SIMILARITY": json.dumps(
            {"BATCH_SIZE": 4, "POLL_SECONDS": 0.5, "SWEEP_FILES_SECONDS": 0, "LEASE_SECONDS": 5}
        )
    }
    worker = celery_worker_process(env=environment)
    _until(lambda: not OutboxEntry.objects.exists(), worker)
    log(f"{SHOP} products are embedded by the active version `old`.")
    new = tiny_version("new", state=ModelVersion.State.CANDIDATE, seed=8)
    for version, value in ((old, 0.8), (new, 0.9)):
        ModelVersion.objects.filter(pk=version.pk).update(metrics=_measured(value))

    def active() -> str:
        return ModelVersion.objects.active().name

    moments: dict[str, tuple[float, object]] = {}

    def note(moment: str) -> None:
        moments[moment] = (time.monotonic(), timezone.now())

    def more_answers(count: int) -> None:
        enough = len(traffic.answers) + count
        _until(lambda: len(traffic.answers) >= enough or bool(traffic.faults), worker)

    with Traffic(live_server.url, shop, [item for _ in range(20) for item in drawn]) as traffic:
        more_answers(60)
        note("wished")
        call_command("activate_model", "new", verbosity=0)
        log(f"activate_model new. Answers so far: {len(traffic.answers)}, products saved: {len(traffic.saved)}.")
        _until(lambda: Embedding.objects.filter(version=new).count() > SHOP // 3, worker)
        worker.kill()
        note("killed")
        log(f"The worker is killed. {rollout.coverage(new)}")
        more_answers(30)
        assert active() == "old"
        before = Embedding.objects.count()
        worker = celery_worker_process(env=environment, wait=False)
        _until(lambda: Embedding.objects.count() > before, worker)
        note("restarted")
        log("Another worker has taken its place.")
        shown = -1
        while active() == "old":
            found = rollout.coverage(new)
            if found.embedded // 60 != shown:
                shown = found.embedded // 60
                log(f"new: {found.embedded} of {found.photos} embedded, {found.lacking} lacking; answers from old.")
            assert time.monotonic() - moments["wished"][0] < 600, worker.log[-4000:]
            time.sleep(0.05)
        note("switched")
        log(f"The worker switched: {ModelVersion.objects.get(pk=old.pk).state} old, active new.")
        more_answers(60)
        note("rollback")
        call_command("rollback_model", verbosity=0)
        note("back")
        log(f"rollback_model: active {active()}.")
        more_answers(60)
    log(f"Traffic ends. Answers: {len(traffic.answers)}, products saved: {len(traffic.saved)}.")
    _until(lambda: not OutboxEntry.objects.exists(), worker)
    assert worker.stop() == 0

    assert traffic.faults == []
    assert active() == "old"
    assert ModelVersion.objects.get(pk=new.pk).state == ModelVersion.State.STANDBY
    everything = set(Product.objects.values_list("pk", flat=True))
    assert len(everything) == SHOP + len(traffic.saved)
    for version in (old, new):
        assert set(version.embeddings.values_list("product_id", flat=True)) == everything

    # Who has shown look-alikes once shows them from then on.
    first: dict[int, float] = {}
    for answer in sorted(traffic.answers, key=lambda answer: answer.ended):
        if answer.shown:
            first.setdefault(answer.product, answer.ended)
    emptied = [a for a in traffic.answers if not a.shown and first.get(a.product, np.inf) < a.began]
    assert emptied == []
    # A new product waits for its own first embedding, nobody else has an empty page.
    originals = {product.pk for product in shop}
    assert [a for a in traffic.answers if not a.shown and a.product in originals] == []

    judge = Judge([old, new], originals)
    counted: Counter = Counter()
    for answer in traffic.answers:
        if not answer.shown:
            counted["of a product not embedded yet"] += 1
            continue
        fits = judge.versions_of(answer)
        assert fits, f"Neither version gives {answer}"
        if answer.version is not None:
            assert answer.version in fits, answer
            fits = {answer.version}
        if len(fits) == 1:
            # Once a version has taken over, no page that begins shows the other.
            by = fits.pop()
            if answer.ended < moments["switched"][0] - 1 or answer.began > moments["back"][0]:
                assert by == "old", answer
            elif moments["switched"][0] < answer.began and answer.ended < moments["rollback"][0]:
                assert by == "new", answer
            counted[f"from {by} alone"] += 1
        else:
            counted["the same from both"] += 1
    log(f"Answers: {dict(counted)}.")
    assert counted["from old alone"] > 50
    assert counted["from new alone"] > 30

    waits = _waits(traffic, old, new, moments)
    for phase, seconds in waits.items():
        log(
            f"Saved photo to embedding of the active version, {phase}: median {statistics.median(seconds):.2f} s, "
            f"longest {max(seconds):.2f} s, {len(seconds)} photos."
        )


def _waits(traffic: Traffic, old: ModelVersion, new: ModelVersion, moments: dict) -> dict[str, list[float]]:
    """Seconds from save to embedding by the version that was active, by phase; not while no worker ran."""
    embedded = {
        version.name: dict(version.embeddings.values_list("product_id", "embedded_at")) for version in (old, new)
    }
    waits: dict[str, list[float]] = {}
    for product, saved_at in traffic.saved:
        if saved_at < moments["wished"][1]:
            phase, version = "before the roll-out", "old"
        elif moments["killed"][1] - timedelta(seconds=1) < saved_at < moments["restarted"][1]:
            continue
        elif saved_at < moments["switched"][1]:
            phase, version = "while the candidate is embedded", "old"
        elif saved_at < moments["rollback"][1]:
            phase, version = "after the switch", "new"
        else:
            phase, version = "after going back", "old"
        waits.setdefault(phase, []).append((embedded[version][product.pk] - saved_at).total_seconds())
    return waits
