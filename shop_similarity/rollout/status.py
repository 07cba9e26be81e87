"""The state of the plugin in numbers: what is embedded, what waits, what failed, version by version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.db.models import Count

from ..catalogue import PRODUCT, get_catalogue
from ..conf import get_settings
from ..embedding.coverage import VersionCounts, version_counts
from ..embedding.engines import states
from ..embedding.heartbeat import last_seen
from ..embedding.magnitudes import COUNTED, Number, count
from ..embedding.sweep import last_runs
from ..models import ModelVersion, OutboxEntry
from .recall import CodeRecall, remembered, with_samples

# Of very many products so many are looked at.
_SAMPLE = 500


def status(*, asking: bool = False) -> dict[str, Any]:
    """Counts of the catalogue and of every model version, ready for JSON.

    Args:
        asking: whether to ask an engine beside Postgres whether it is well, which may take seconds.

    Returns:
        ``products``, ``products_with_images`` and ``images`` in the shop, and ``is_about``: whether a number beyond
        50,000 is an estimate; ``embedded``, ``pending`` and ``failed``
        photos and the ``coverage`` (share of the photos, 0 to 1) of the active version, under ``active_version`` its
        name or None; ``versions`` with the same for each version, its state, metrics and index, what its search by
        codes was last found to find (``code_recall``), and since when it is wished to be active; ``standby_version``:
        the name of the one to go back to or None; ``last_sweep``; ``sweeps``: how far those are that have not come to
        their end; ``worker_seen_at``: when a worker was last
        running, or None; ``engine``: what names the candidates, and ``engine_trouble``: what is wrong with it, as
        sentences.
    """
    catalogue = get_catalogue()
    images, with_images = _images()
    products = count(catalogue.all_products())
    if with_images is None:
        with_images = _products_with_images(products)
    versions = version_rows(list(with_samples(ModelVersion.objects.all())), images)
    active = next((row for row in versions if row["state"] == ModelVersion.State.ACTIVE), None)
    standby = next((row for row in versions if row["state"] == ModelVersion.State.STANDBY), None)
    seen = last_seen()
    sweep, under_way = last_runs()
    return {
        "products": products,
        "products_with_images": with_images,
        "images": images,
        "is_about": images.is_about or products.is_about or any(row["is_about"] for row in versions),
        "active_version": active and active["name"],
        "standby_version": standby and standby["name"],
        "embedded": active["embedded"] if active else 0,
        "pending": active["pending"] if active else 0,
        "failed": active["failed"] if active else 0,
        "coverage": active["coverage"] if active else 0.0,
        "versions": versions,
        "engine": get_settings().engine,
        "engine_trouble": states.trouble(asking=asking),
        "worker_seen_at": seen and seen.isoformat(),
        "last_sweep": sweep
        and {
            "finished_at": sweep.finished_at and sweep.finished_at.isoformat(),
            "with_files": sweep.with_files,
            "enqueued": sweep.enqueued,
            "removed": sweep.removed,
        },
        "sweeps": [
            {"started_at": run.started_at.isoformat(), "with_files": run.with_files, "examined": run.examined}
            for run in under_way
        ],
    }


def _images() -> tuple[Number, Number | None]:
    """How many photos there are, and of how many products; of very many photos the second is not known."""
    photos = get_catalogue().images().order_by()
    few = photos.values("pk", PRODUCT)[: COUNTED + 1]
    found = few.aggregate(images=Count("pk"), products=Count(PRODUCT, distinct=True))
    if found["images"] > COUNTED:
        return count(photos), None
    return Number(found["images"]), Number(found["products"])


def _products_with_images(products: Number) -> Number:
    """Of how many of so many products there are photos: the first products are looked at."""
    catalogue = get_catalogue()
    keys = list(catalogue.all_products().order_by("pk").values_list("pk", flat=True)[:_SAMPLE])
    # Both conditions in one statement lead Postgres 15 to read all photos.
    found = len({row.product_id for row in catalogue.rows(catalogue.images_of(keys).order_by())} & set(keys))
    return Number(round(products * found / max(len(keys), 1)), is_about=len(keys) < products)


def version_rows(versions: Sequence[ModelVersion], images: int) -> list[dict[str, Any]]:
    """For each version what :func:`status` tells of it, by a number of statements that does not depend on theirs.

    Args:
        versions: the versions.
        images: number of the shop's photos.
    """
    counts = version_counts([version.pk for version in versions])
    measured = remembered(versions)
    return [_row(version, counts[version.pk], images, measured.get(version.pk)) for version in versions]


def _row(version: ModelVersion, counts: VersionCounts, images: int, recall: CodeRecall | None) -> dict[str, Any]:
    requested = version.activation_requested_at
    return {
        "name": version.name,
        "architecture": version.architecture,
        "state": version.state,
        "activation_requested_at": requested and requested.isoformat(),
        "weights_sha256": version.weights_sha256,
        "weights_source": version.weights_source,
        "embedded": counts.embedded,
        "products_embedded": counts.products,
        "pending": counts.waiting,
        "failed": counts.failed,
        "coverage": round(counts.share(images), 4),
        "is_about": any(
            number.is_about for number in (counts.embedded, counts.products, counts.waiting, counts.failed)
        ),
        "index": asdict(counts.index),
        "code_recall": recall
        and {
            "recall": recall.recall,
            "filtered_recall": recall.filtered_recall,
            "products": recall.products,
            "measured_at": recall.measured_at.isoformat(),
            "warning": recall.warning(version.name),
        },
        "metrics": _for_people(version.metrics),
    }


def _for_people(metrics: Any) -> Any:
    """Without what only a later training or comparison reads: samples of hashes, and values summed up by group."""
    if isinstance(metrics, dict):
        return {name: _for_people(value) for name, value in metrics.items() if name not in ("seen", "by_group")}
    return metrics


def failures(version_id: int, limit: int = 20) -> list[dict[str, Any]]:
    """The photos of a version that could not be embedded, newest first, each with its sentence."""
    entries = OutboxEntry.objects.filter(version=version_id, failed_at__isnull=False).order_by("-failed_at")[:limit]
    return [
        {
            "image": str(entry.image_id),
            "product": str(entry.product_id),
            "file": entry.file_name,
            "attempts": entry.attempts,
            "error": entry.last_error,
            "failed_at": entry.failed_at and entry.failed_at.isoformat(),
        }
        for entry in entries
    ]
