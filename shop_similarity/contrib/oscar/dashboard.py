"""What Oscar's dashboard shows of the photos: staff all of them, partners those of the products that they may edit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from ...catalogue import OWNER, get_catalogue
from ...embedding import outbox
from ...embedding.heartbeat import last_seen
from ...embedding.magnitudes import Number, count
from ...embedding.photo_states import PhotoState, photo_states
from ...models import Embedding, ModelVersion, OutboxEntry
from ...photos.thumbnails import Sources, sources
from ...search import searched_version

FAILURES = 10
WIDTHS = (80, 160)
# A photo that waits while no worker was seen for so long is worth a warning.
_QUIET = timedelta(minutes=10)


@dataclass(frozen=True)
class Failure:
    """A photo that could not be embedded. ``product`` is the one that it is shown by, None where that is gone."""

    entry: OutboxEntry
    product: Any


@dataclass(frozen=True)
class PhotoStatus:
    """How far the photos are with the version that pages search with.

    Attributes:
        version: that version, None where there is none.
        embedded: photos that it has.
        waiting: photos that wait for a worker.
        failed: photos that were given up.
        failures: the last of these.
        worker_seen_at: when a worker was last alive, None where none ever ran.
        is_quiet: whether photos wait and no worker is there.
    """

    version: ModelVersion | None
    embedded: Number
    waiting: Number
    failed: Number
    failures: list[Failure]
    worker_seen_at: datetime | None

    @property
    def is_quiet(self) -> bool:
        seen = self.worker_seen_at
        return bool(self.waiting) and (seen is None or timezone.now() - seen > _QUIET)


@dataclass(frozen=True)
class ProductPhoto:
    """A photo with the product that it hangs on, and its state; ``state`` is None where there is no version."""

    name: str
    picture: Sources | None
    owner: Any
    state: PhotoState | None


def may_see(request: HttpRequest) -> bool:
    """Whether the user may see Oscar's dashboard at all."""
    from oscar.views.decorators import check_permissions

    dashboard: Any = apps.get_app_config("dashboard")
    return check_permissions(request.user, dashboard.get_permissions("index"))


def editable_products(request: HttpRequest) -> QuerySet:
    """The products that Oscar's dashboard lets the user edit: what it says itself, or a fork of it."""
    from oscar.core.loading import get_class

    mixin = get_class("dashboard.catalogue.mixins", "PartnerProductFilterMixin")()
    mixin.request = request
    return mixin.filter_queryset(get_catalogue().product_model._default_manager.all()).order_by()


def photo_status(request: HttpRequest) -> PhotoStatus | None:
    """The state of the photos that the user may know of; None where he may not see the dashboard."""
    if not may_see(request):
        return None
    version = searched_version()
    if version is None:
        return PhotoStatus(None, Number(0), Number(0), Number(0), [], last_seen())
    entries = OutboxEntry.objects.filter(version=version.pk).order_by()
    embeddings = Embedding.objects.filter(version=version.pk).order_by()
    if not request.user.is_staff:
        # A parent's photos are also those of children that other partners sell.
        own = get_catalogue().images().filter(**{f"{OWNER}__in": editable_products(request).values("pk")})
        keys = own.order_by().values("pk")
        entries, embeddings = entries.filter(image_id__in=keys), embeddings.filter(image_id__in=keys)
        photos = entries.distinct("image_id")
        counts = {
            "pending": count(photos.filter(failed_at__isnull=True)),
            "failed": count(photos.filter(failed_at__isnull=False)),
        }
    else:
        counts = outbox.counts([version.pk])[version.pk]
    failed = list(entries.filter(failed_at__isnull=False).order_by("-failed_at")[:FAILURES])
    products = get_catalogue().all_products().in_bulk({entry.product_id for entry in failed})
    failures = [Failure(entry, products.get(entry.product_id)) for entry in failed]
    return PhotoStatus(version, count(embeddings), counts["pending"], counts["failed"], failures, last_seen())


def product_photos(request: HttpRequest, product: Any) -> list[ProductPhoto]:
    """The photos by which a product is found and asked with, as far as the user may edit what they hang on."""
    if not may_see(request):
        return []
    photos = photo_states(product)
    rows = get_catalogue().images().filter(pk__in=[photo.image_id for photo in photos])
    owner_of = dict(rows.values_list("pk", OWNER))
    owners = editable_products(request).select_related("parent").in_bulk(set(owner_of.values()))
    return [
        ProductPhoto(
            photo.file.name,
            sources(photo.file, WIDTHS),
            owners[owner],
            next((state for state in photo.states if state.version.state == ModelVersion.State.ACTIVE), None),
        )
        for photo in photos
        if (owner := owner_of.get(photo.image_id)) in owners
    ]
