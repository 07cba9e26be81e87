"""How far a model version is with the shop's photos, and what pages would lose if it took over now."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from ..catalogue import get_catalogue
from ..models import Embedding, ModelVersion, OutboxEntry
from . import outbox
from .index import index_state

# Photos that failed for the candidate alone were deleted or damaged since the active version saw them. More of them
# than this share of what the active version shows is rather a storage that was away.
TOLERATED_FAILURES = 0.01


@dataclass(frozen=True)
class Coverage:
    """How far a version is, in photos.

    Attributes:
        version: its name.
        photos: photos of the shop.
        embedded: those that it has.
        waiting: those in the outbox for it.
        failed: those given up, each with a sentence in the outbox.
        active: name of the active version that it is measured by; None where there is none or it is itself.
        shown: photos that the active version can show.
        lacking: those of them that this version has not yet, without the ones that failed.
        unqueued: those of the lacking that do not even wait in the outbox; a sweep queues them.
        lost: photos that the active version can show and that failed for this one.
        lacks_index: whether the active version is searched by an index and this one has none yet.
    """

    version: str
    photos: int
    embedded: int
    waiting: int
    failed: int
    active: str | None
    shown: int
    lacking: int
    unqueued: int
    lost: int
    lacks_index: bool

    @property
    def share(self) -> float:
        """Share of the shop's photos that it has, 0 to 1."""
        return min(self.embedded / self.photos, 1.0) if self.photos else 1.0

    @property
    def loses_too_much(self) -> bool:
        return self.lost > TOLERATED_FAILURES * self.shown

    @property
    def is_complete(self) -> bool:
        """Whether no page would lose anything but what is lost for a reason."""
        return not self.lacking and not self.loses_too_much

    @property
    def is_ready(self) -> bool:
        return self.is_complete and not self.lacks_index

    def obstacles(self) -> list[str]:
        """Why it can't take over now, as sentences; empty if it can."""
        found = []
        if self.lacking:
            found.append(
                _(
                    "%(version)s lacks %(lacking)d of the %(shown)d photos that %(active)s shows (it has %(share)s "
                    "%% of all): a running worker embeds them, or run `manage.py embed_products --model %(version)s`."
                )
                % {
                    "version": self.version,
                    "share": number_format(round(100 * self.share, 1), 1),
                    "lacking": self.lacking,
                    "shown": self.shown,
                    "active": self.active,
                }
            )
        if self.loses_too_much:
            found.append(
                _(
                    "%(lost)d of the %(shown)d photos that %(active)s shows failed for %(version)s: "
                    "`manage.py similarity_status` says why, "
                    "`manage.py embed_products --model %(version)s --retry-failed` tries them again."
                )
                % {"version": self.version, "lost": self.lost, "shown": self.shown, "active": self.active}
            )
        if self.lacks_index:
            found.append(
                _(
                    "%(version)s has no index yet: a running worker builds it, or run "
                    "`manage.py embed_products --model %(version)s`."
                )
                % {"version": self.version}
            )
        return found


def coverage(version: ModelVersion) -> Coverage:
    """How far ``version`` is, measured by what the active version can show. A few counting statements.

    The active version itself has nothing to be measured by: nothing is lacking there.
    """
    active = ModelVersion.objects.defer("metrics").exclude(pk=version.pk).active()
    counted = outbox.counts([version.pk]).get(version.pk, {"pending": 0, "failed": 0})
    missing = gap(version, active) if active is not None else Gap()
    return Coverage(
        version=version.name,
        photos=get_catalogue().images().order_by().count(),
        embedded=Embedding.objects.filter(version=version.pk).count(),
        waiting=counted["pending"],
        failed=counted["failed"],
        active=active and active.name,
        shown=_shown(active).count() if active is not None else 0,
        lacking=missing.lacking,
        unqueued=missing.unqueued,
        lost=missing.lost,
        lacks_index=lacks_index(version, active),
    )


def lacks_index(version: ModelVersion, active: ModelVersion | None) -> bool:
    """Whether the active version is searched by an index that ``version`` has not yet."""
    return active is not None and index_state(active.pk).state == "ready" and index_state(version.pk).state != "ready"


def _held(version: ModelVersion) -> Exists:
    product = OuterRef(get_catalogue().product_field or "pk")
    return Exists(Embedding.objects.filter(version=version.pk, image_id=OuterRef("pk"), product_id=product))


def _shown(version: ModelVersion) -> QuerySet:
    """The photos of the shop that the version can show, each for its own product."""
    return get_catalogue().images().order_by().filter(_held(version))


@dataclass(frozen=True)
class Gap:
    """Photos that the active version can show and another one can't; see :class:`Coverage`."""

    lacking: int = 0
    unqueued: int = 0
    lost: int = 0


def gap(version: ModelVersion, active: ModelVersion) -> Gap:
    """What pages would lose if ``version`` took the place of ``active`` now. One statement."""
    entries = OutboxEntry.objects.filter(version=version.pk, image_id=OuterRef("pk"))
    found = (
        _shown(active)
        .filter(~_held(version))
        .annotate(
            waits=Exists(entries.filter(failed_at__isnull=True)),
            gave_up=Exists(entries.filter(failed_at__isnull=False)),
        )
        .aggregate(
            all=Count("pk"),
            lost=Count("pk", filter=Q(waits=False, gave_up=True)),
            unqueued=Count("pk", filter=Q(waits=False, gave_up=False)),
        )
    )
    return Gap(found["all"] - found["lost"], found["unqueued"], found["lost"])
