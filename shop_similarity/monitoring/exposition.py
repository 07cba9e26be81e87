"""The metrics as Prometheus reads them: what processes counted, and what the database says at this moment.

Several web processes of one machine count into files of ``PROMETHEUS_MULTIPROC_DIR``, which are added up here. What the
database says is asked for at each scrape and is the same from every process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

from django.utils import timezone

from .. import database, meters
from ..rollout.recall import remembered
from . import state

logger = logging.getLogger(__name__)

# For each statement.
SECONDS = 2.0
_P = meters.PREFIX


class NotInstalled(Exception):
    """The extra ``metrics`` is missing; the text says what to do."""

    def __init__(self) -> None:
        super().__init__("Metrics need prometheus-client: pip install prometheus-client, or the extra `metrics`.")


def _modules() -> Any:
    try:
        import prometheus_client
        import prometheus_client.core
        import prometheus_client.multiprocess
    except ImportError as error:
        raise NotInstalled from error
    return prometheus_client


class DatabaseState:
    """A collector of what the database says; to be registered where a shop exports its metrics itself."""

    def describe(self) -> list[Any]:
        """Nothing: registering it asks no database."""
        return []

    def collect(self) -> Iterator[Any]:
        """One family of samples after another; where the database is away, the one that says so alone."""
        gauge = _modules().core.GaugeMetricFamily
        try:
            with state.limited(SECONDS):
                families = list(_families(gauge))
        except Exception as error:
            if not database.is_away(error):
                raise
            logger.warning("Metrics lack what the database says. %s: %s", type(error).__name__, error)
            families = []
        yield gauge(f"{_P}database_up", "Whether the database answered this scrape.", value=bool(families))
        yield from families


def _families(gauge: Any) -> Iterator[Any]:
    queues = state.queues()
    waiting = gauge(f"{_P}queue_photos", f"Outbox entries by state, counted up to {state.MOST}.", labels=["state"])
    later, claimed = state.elsewhere()
    waiting.add_metric(["ready"], min(sum(queue.ready for queue in queues), state.MOST))
    waiting.add_metric(["later"], later)
    waiting.add_metric(["claimed"], claimed)
    yield waiting
    by_version = gauge(
        f"{_P}version_photos", f"Ready and failed photos of a version, counted up to {state.MOST}.", labels=_BY_VERSION
    )
    ages = gauge(f"{_P}queue_age_seconds", "How long the first ready entry has waited.", labels=_BY_PRIORITY)
    active = gauge(f"{_P}version_active", "1 for the version that pages search with.", labels=["version"])
    for queue in queues:
        by_version.add_metric([queue.version, "ready"], queue.ready)
        by_version.add_metric([queue.version, "failed"], queue.failed)
        active.add_metric([queue.version], queue.is_active)
        for number, priority in enumerate(state.PRIORITIES):
            ages.add_metric([queue.version, priority], queue.age(number))
    yield from (by_version, ages, active)
    workers = state.workers()
    yield gauge(f"{_P}workers", "Workers that were alive within two minutes.", value=workers.alive)
    if workers.seen_at is not None:
        age = max((timezone.now() - workers.seen_at).total_seconds(), 0.0)
        yield gauge(f"{_P}worker_age_seconds", "Since any worker was last alive.", value=age)
    ready = gauge(f"{_P}index_ready", "Whether a version's index is used.", labels=["version"])
    size = gauge(f"{_P}index_bytes", "Size of a version's index on disk.", labels=["version"])
    photos = gauge(f"{_P}index_photos", "About how many photos are in it.", labels=["version"])
    for index in state.indexes():
        ready.add_metric([index.version], index.state == "ready")
        size.add_metric([index.version], index.bytes)
        photos.add_metric([index.version], index.photos)
    yield from (ready, size, photos)
    yield gauge(f"{_P}embeddings", "About how many embeddings there are, of all versions.", value=state.embeddings())
    yield from _recall(gauge)


_BY_VERSION = ["version", "state"]
_BY_PRIORITY = ["version", "priority"]


def _recall(gauge: Any) -> Iterator[Any]:
    version = state.active_version()
    measured = remembered([version]).get(version.pk) if version is not None else None
    if version is None or measured is None:
        return
    recall = gauge(
        f"{_P}recall", "Share of the exact search's finds that the search by codes has.", labels=["version", "filter"]
    )
    for name, share in (("none", measured.recall), ("category", measured.filtered_recall)):
        if share is not None:
            recall.add_metric([version.name, name], share)
    yield recall
    age = max((timezone.now() - measured.measured_at).total_seconds(), 0.0)
    yield gauge(f"{_P}recall_age_seconds", "Since that was measured.", value=age)


class _Ours:
    """What another collector collects, without what is not the plugin's."""

    def __init__(self, collector: Any) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Any]:
        return (family for family in self._collector.collect() if family.name.startswith(_P))


def registry(*, of_database: bool = True) -> Any:
    """A registry of all that the plugin has to tell; of what processes counted alone without ``of_database``.

    Raises:
        NotInstalled: the extra is missing.
    """
    client = _modules()
    meters.begin()
    new = client.CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        client.multiprocess.MultiProcessCollector(_Filtered(new))
    else:
        new.register(_Ours(client.REGISTRY))
    if of_database:
        new.register(DatabaseState())
    return new


class _Filtered:
    """A registry that takes collectors in for another one, which gets the plugin's families alone."""

    def __init__(self, other: Any) -> None:
        self._other = other

    def register(self, collector: Any) -> None:
        self._other.register(_Ours(collector))


def exposition() -> tuple[bytes, str]:
    """The metrics of the plugin in Prometheus' text format, and its content type. For views of a shop's own.

    Raises:
        NotInstalled: the extra is missing.
    """
    client = _modules()
    return client.generate_latest(registry()), client.CONTENT_TYPE_LATEST
