"""Answering shoppers who search with a photo, while the same process may be draining the outbox.

A thread of its own hears of each photo by a notification of PostgreSQL, so it needs no broker, and looks by itself
twice a second for connections (through a pooler) that carry no notifications. It keeps the networks that shoppers may
ask for in memory and compiled.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import time

import numpy as np
from django.db.models import Exists, F, OuterRef, Q
from PIL import Image

from shop_similarity import database
from shop_similarity.conf import get_settings
from shop_similarity.models import Experiment, ModelVersion
from shop_similarity.training.networks.questions import Questions
from shop_similarity.training.networks.saliency.objects import Box
from shop_similarity.visual_search import queue, votes
from shop_similarity.visual_search.common_part import without_common_part
from shop_similarity.visual_search.expansion import drawn_to_the_shop
from shop_similarity.workers import objects
from shop_similarity.workers.embedder import Embedder, complain, get_embedder, urgent_turn
from shop_similarity.workers.jobs import stopping

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_PURGE_SECONDS = 5.0
# What could not be loaded is tried again so seldom, for reading and hashing the weights costs a second.
_LOAD_AGAIN_SECONDS = 30.0


@database.on_primary()
def answer_waiting(stop: threading.Event = stopping) -> int:
    """Embed the photos that wait, the oldest first, until there are none; returns how many."""
    answered = 0
    while not stop.is_set() and (query_version := queue.next_version(_unusable())) is not None:
        # One that went out of use between the shopper's click and now finds nothing any more.
        version = query_version if query_version.state in ModelVersion.LIVE else ModelVersion.objects.active()
        # Before anything is claimed: other workers may hold the network already.
        embedder = _load(version) if version is not None else None
        if version is None or embedder is None:
            if version is not query_version:
                break
            continue
        claim = queue.claim(query_version)
        if claim is not None:
            vector, regions = _look(claim, embedder)
            searched = vector
            # A product's own photo is no snapshot.
            if vector is not None and claim.is_snapshot:
                searched = asking_vector(version, vector)
            queue.answer(claim, version, searched, vector if claim.is_vote else None, regions)
            answered += 1
            if claim.is_vote:
                votes.count(version)
    return answered


def _look(claim: queue.Claim, embedder: Embedder) -> tuple[np.ndarray | None, list[Box]]:
    """The vector of a photo, (4096,), and its objects; None, with a line in the log, where it can't be embedded."""
    try:
        return embed_photo(claim.photo, embedder, claim.finds_objects)
    except Exception as error:
        if database.is_away(error):
            raise
        logger.exception("A photo that a shopper searched with could not be embedded.")
        return None, []


def embed_photo(photo: bytes, embedder: Embedder, finds_objects: bool) -> tuple[np.ndarray, list[Box]]:
    """The vector of a photo, or of its largest object, and its objects.

    Args:
        photo: as :func:`shop_similarity.visual_search.prepare_photo` makes it.
        embedder: of the version that is searched with.
        finds_objects: whether objects are looked for, where the weights for that are here.
    """
    finds = objects.network() if finds_objects else None
    # Written by the web process itself, after it had checked what the shopper sent.
    with Image.open(io.BytesIO(photo), formats=("PNG",)) as opened:
        image = opened.convert("RGB")
    with urgent_turn():
        regions = objects.boxes_in(image, finds) if finds else []
        if regions:
            image = _part(image, regions[0])
        return embedder.embed_one(embedder.preprocessing.prepare(image)), regions


def asking_vector(version: ModelVersion, vector: np.ndarray) -> np.ndarray:
    """The vector to search with, (4096,), of a shopper's photo whose embedding is ``vector``."""
    vector = drawn_to_the_shop(version, without_common_part(version, vector))
    # Embeddings of a version may tell the product on the photo from its look.
    questions = Questions.of(version.config)
    return questions.asked_by_photo(vector) if questions else vector


def _part(image: Image.Image, box: Box) -> Image.Image:
    width, height = image.size
    left, top, right, bottom = box
    return image.crop((left * width // 100, top * height // 100, -(-right * width // 100), -(-bottom * height // 100)))


_failed_loads: dict[int, float] = {}


def _unusable() -> list[int]:
    """Keys of the versions that could not be loaded a moment ago."""
    now = time.monotonic()
    return [pk for pk, until in list(_failed_loads.items()) if now < until]


def _load(version: ModelVersion) -> Embedder | None:
    """The network of a version, compiled; None, with a line in the log, while it can't be loaded."""
    if time.monotonic() < _failed_loads.get(version.pk, 0.0):
        return None
    try:
        embedder = get_embedder(version)
        embedder.warm_up()
    except Exception as error:
        _failed_loads[version.pk] = time.monotonic() + _LOAD_AGAIN_SECONDS
        complain(version, error)
        return None
    _failed_loads.pop(version.pk, None)
    return embedder


@database.on_primary()
def warm_up() -> None:
    """Load and compile the networks that shoppers may ask for: the active version's and those of an experiment."""
    running = Experiment.objects.running()
    versions = (
        ModelVersion.objects.live()
        .filter(
            Q(state=ModelVersion.State.ACTIVE)
            | Exists(running.filter(control=OuterRef("pk")))
            | Exists(running.filter(treatment=OuterRef("pk")))
        )
        .order_by(F("activated_at").desc(nulls_last=True))
    )
    for version in versions:
        _load(version)
    if get_settings().visual_search_objects:
        objects.network()


@database.on_primary()
def watch(stop: threading.Event = stopping) -> None:
    """Answer shoppers until ``stop`` is set; the target of the thread."""
    complained = ""
    next_purge = next_warm_up = 0.0
    while not stop.is_set():
        try:
            queue.listen()
            answer_waiting(stop)
            if time.monotonic() >= next_purge:
                queue.purge()
                next_purge = time.monotonic() + _PURGE_SECONDS
            if time.monotonic() >= next_warm_up:
                warm_up()
                next_warm_up = time.monotonic() + _PURGE_SECONDS
                continue
            queue.hear(_LOOK_SECONDS)
            complained = ""
        except Exception as error:
            # The database may be away for a while. Say each trouble once.
            if str(error) != complained:
                complained = str(error)
                logger.exception("The worker could not look for photos that shoppers search with; it goes on trying.")
            # The next look makes a new one. Until something goes wrong it stays open, for it is listened on.
            database.close_connections()
            stop.wait(1.0)
    database.close_connections()


_threads: list[tuple[int, threading.Thread]] = []


def start() -> None:
    """Start the thread that answers shoppers, once in each process."""
    if any(pid == os.getpid() for pid, _thread in _threads):
        return
    thread = threading.Thread(target=watch, name="shop-similarity-visual-queries", daemon=True)
    _threads.append((os.getpid(), thread))
    thread.start()


def join(timeout: float = 60) -> None:
    """Wait until the thread of this process has come to its end, after ``stopping`` was set."""
    for pid, thread in _threads:
        if pid == os.getpid():
            thread.join(timeout)
    _threads.clear()
