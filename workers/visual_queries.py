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
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
from billiard import current_process
from celery.signals import worker_process_init
from django.db import connections, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from PIL import Image

from shop_similarity.models import Experiment, ModelVersion, VisualQuery
from shop_similarity.search import searched_version
from shop_similarity.visual_search import purge
from shop_similarity.visual_search.common_part import without_common_part
from shop_similarity.visual_search.queue import CHANNEL, PHOTO_SECONDS, database, queries, waiting
from shop_similarity.workers.drain import stopping
from shop_similarity.workers.embedder import Embedder, complain, get_embedder

logger = logging.getLogger(__name__)

LEASE_SECONDS = 3
"""After so long another worker takes the photo of one that died: within the time that a shopper waits."""

_LOOK_SECONDS = 0.5
_PURGE_SECONDS = 5.0
# What could not be loaded is tried again so seldom, for reading and hashing the weights costs a second.
_LOAD_AGAIN_SECONDS = 30.0


@dataclass(frozen=True)
class _Claimed:
    key: UUID
    photo: bytes
    claimed_at: Any


def answer_waiting(stop: threading.Event = stopping) -> int:
    """Embed the photos that wait, the oldest first, until there are none; returns how many."""
    answered = 0
    while not stop.is_set():
        following = _first_version()
        if following is None:
            return answered
        of_version, version = following
        # Before anything is claimed: other workers may hold the network already.
        embedder = _load(version)
        if embedder is None:
            if version.pk != of_version:
                return answered
            continue
        claimed = _claim(of_version)
        if claimed is not None:
            _answer(claimed, version, embedder)
            answered += 1
    return answered


def _claimable() -> Q:
    now = timezone.now()
    return Q(created_at__gt=now - timedelta(seconds=PHOTO_SECONDS)) & (
        Q(claimed_at__isnull=True) | Q(claimed_at__lt=now - timedelta(seconds=LEASE_SECONDS))
    )


def _first_version() -> tuple[int, ModelVersion] | None:
    """Key of the version of the oldest photo that can be claimed, and the version to embed it with."""
    now = time.monotonic()
    unusable = [pk for pk, until in list(_failed_loads.items()) if now < until]
    oldest = (
        waiting()
        .filter(_claimable())
        .exclude(version__in=unusable)
        .order_by("created_at")
        .values_list("version", flat=True)[:1]
    )
    version = ModelVersion.objects.using(database()).filter(pk__in=oldest).first()
    if version is None:
        return None
    of_version = version.pk
    if version.state not in ModelVersion.LIVE:
        # It went out of use between the shopper's click and now; nothing could be found with it.
        active = searched_version()
        if active is None:
            return None
        version = ModelVersion.objects.get(pk=active.pk)
    return of_version, version


def _claim(of_version: int) -> _Claimed | None:
    """Take one photo for ``LEASE_SECONDS``, committed at once."""
    now = timezone.now()
    with transaction.atomic(using=database()):
        row = (
            waiting()
            .select_for_update(skip_locked=True)
            .filter(_claimable(), version=of_version)
            .order_by("created_at")
            .values_list("pk", "photo")
            .first()
        )
        if row is None or row[1] is None:
            return None
        queries().filter(pk=row[0]).update(claimed_at=now)
    return _Claimed(row[0], bytes(row[1]), now)


def _answer(claimed: _Claimed, version: ModelVersion, embedder: Embedder) -> None:
    vector: np.ndarray | None = None
    try:
        # Written by the web process itself, after it had checked what the shopper sent.
        with Image.open(io.BytesIO(claimed.photo), formats=("PNG",)) as image:
            vector = embedder.embed_one(embedder.preprocessing.prepare(image))
        vector = vector if np.isfinite(vector).all() else None
    except Exception:
        logger.exception("A photo that a shopper searched with could not be embedded.")
    if vector is not None:
        vector = without_common_part(version, vector)
    # One statement: the photo is gone as soon as its vector is there. Who lost the claim meanwhile writes nothing.
    queries().filter(pk=claimed.key, claimed_at=claimed.claimed_at, answered_at__isnull=True).update(
        photo=None,
        vector=vector,
        version=version,
        error="" if vector is not None else VisualQuery.Error.FAILED,
        answered_at=timezone.now(),
    )


_failed_loads: dict[int, float] = {}


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


def warm_up() -> None:
    """Load and compile the networks that shoppers may ask for: the active version's and those of an experiment."""
    running = Experiment.objects.running()
    asked_for = (
        ModelVersion.objects.live()
        .filter(
            Q(state=ModelVersion.State.ACTIVE)
            | Exists(running.filter(control=OuterRef("pk")))
            | Exists(running.filter(treatment=OuterRef("pk")))
        )
        .order_by(F("activated_at").desc(nulls_last=True))
    )
    for version in asked_for:
        _load(version)


def watch(stop: threading.Event = stopping) -> None:
    """Answer shoppers until ``stop`` is set; the target of the thread."""
    complained = ""
    next_purge = next_warm_up = 0.0
    while not stop.is_set():
        try:
            _listen()
            answer_waiting(stop)
            if time.monotonic() >= next_purge:
                purge()
                next_purge = time.monotonic() + _PURGE_SECONDS
            if time.monotonic() >= next_warm_up:
                warm_up()
                next_warm_up = time.monotonic() + _PURGE_SECONDS
                continue
            _wait_for_photo(_LOOK_SECONDS)
            complained = ""
        except Exception as error:
            # The database may be away for a while. Say each trouble once.
            if str(error) != complained:
                complained = str(error)
                logger.exception("The worker could not look for photos that shoppers search with; it goes on trying.")
            # The next look makes a new one. Until something goes wrong it stays open, for it is listened on.
            connections.close_all()
            stop.wait(1.0)
    connections.close_all()


def _listen() -> None:
    # Each time anew, which costs nothing: the connection may be another one than before.
    with connections[database()].cursor() as cursor:
        cursor.execute(f"LISTEN {CHANNEL}")


def _wait_for_photo(seconds: float) -> None:
    for _notification in connections[database()].connection.notifies(timeout=seconds, stop_after=1):
        return


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


@worker_process_init.connect
def _start_in_first_child(**kwargs: Any) -> None:
    """In a pool of processes, where the parent must stay free of TensorFlow, the child in the first slot answers.

    One is enough, and each more would keep the networks in memory once more. A child that dies leaves its slot to the
    one that is forked for it.
    """
    if getattr(current_process(), "index", None) == 0:
        start()
