"""How far the photos of one product are with the model versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..catalogue import get_catalogue
from ..models import Embedding, ModelVersion, OutboxEntry


class Progress(models.TextChoices):
    """What became of a photo with one version."""

    EMBEDDED = "embedded", _("embedded")
    WAITING = "waiting", _("waiting")
    FAILED = "failed", _("failed")
    NOT_QUEUED = "not-queued", _("not queued")


@dataclass(frozen=True)
class PhotoState:
    """A photo with one version.

    Attributes:
        version: the model version.
        progress: a photo that waits may be embedded too, as it was before; ``embedded_at`` says so.
        embedded_at: when, or None.
        attempts: tries of a photo that waits or failed.
        error: the sentence about the last try, or empty.
    """

    version: ModelVersion
    progress: Progress
    embedded_at: datetime | None = None
    attempts: int = 0
    error: str = ""


@dataclass(frozen=True)
class Photo:
    """A photo of a product: its key, its file and its state with every live version, the active one first."""

    image_id: Any
    file: Any
    states: list[PhotoState] = field(default_factory=list)


def photo_states(product: models.Model) -> list[Photo]:
    """The photos of a product in the shop's own order. Four statements, however many photos there are."""
    catalogue = get_catalogue()
    photos = catalogue.product_photos(product)
    image_ids = [photo.image_id for photo in photos]
    embedded_for = catalogue.shown_key(product)
    versions = sorted(
        ModelVersion.objects.live().only("name", "state"), key=lambda version: (version.rank, -version.pk)
    )
    embedded = {
        (version, image_id): when
        for version, image_id, product_id, when in Embedding.objects.filter(
            version__in=versions, image_id__in=image_ids
        ).values_list("version_id", "image_id", "product_id", "embedded_at")
        if product_id == embedded_for
    }
    entries: dict[tuple, OutboxEntry] = {}
    # Of several entries of one photo the one that waits counts: it comes last.
    rows = OutboxEntry.objects.filter(version__in=versions, image_id__in=image_ids)
    for entry in sorted(rows, key=lambda entry: (entry.failed_at is None, entry.pk)):
        entries[entry.version_id, entry.image_id] = entry
    return [
        Photo(
            photo.image_id,
            photo.file,
            [
                _state(version, entries.get((version.pk, photo.image_id)), embedded.get((version.pk, photo.image_id)))
                for version in versions
            ],
        )
        for photo in photos
    ]


def _state(version: ModelVersion, entry: OutboxEntry | None, embedded_at: datetime | None) -> PhotoState:
    if entry is not None:
        progress = Progress.WAITING if entry.failed_at is None else Progress.FAILED
        return PhotoState(version, progress, embedded_at, entry.attempts, entry.last_error)
    return PhotoState(version, Progress.EMBEDDED if embedded_at else Progress.NOT_QUEUED, embedded_at)
