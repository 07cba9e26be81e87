"""How far a model version is with the shop's photos, and what pages would lose if it took over now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from .. import database
from ..catalogue import PRODUCT, get_catalogue
from ..models import Embedding, ModelVersion, OutboxEntry
from . import outbox
from .engines.states import search_states
from .index import IndexState
from .magnitudes import COUNTED, Number, count, estimate
from .vectors import fault_of

# Photos that failed for the candidate alone were deleted or damaged since the active version saw them. More of them
# than this share of what the active version shows is rather a storage that was away.
TOLERATED_FAILURES = 0.01


@dataclass(frozen=True)
class VersionCounts:
    """What there is of a version.

    Attributes:
        embedded: photos that it has.
        products: products that they belong to.
        waiting: photos in the outbox for it.
        failed: photos given up, each with a sentence in the outbox.
        index: its index, or its copy in the engine beside Postgres.

    Numbers beyond 50,000 say ``is_about``.
    """

    embedded: Number
    products: Number
    waiting: Number
    failed: Number
    index: IndexState

    def share(self, photos: int) -> float:
        """Share of the shop's ``photos`` that it has, 0 to 1."""
        return min(self.embedded / photos, 1.0) if photos else 1.0


def version_counts(version_ids: Collection[int]) -> dict[int, VersionCounts]:
    """What there is of each of these versions. Three statements, however many versions of up to 50,000 photos."""
    entries = outbox.counts(version_ids)
    embedded = _embedded(version_ids)
    indexes = search_states(version_ids)
    return {
        pk: VersionCounts(*embedded[pk], entries[pk]["pending"], entries[pk]["failed"], indexes[pk])
        for pk in version_ids
    }


def _embedded(version_ids: Collection[int]) -> dict[int, tuple[Number, Number]]:
    """Photos and products that each version has."""
    with database.cursor(Embedding.objects.all().db) as cursor:
        cursor.execute(
            f"""SELECT v.id, counted.* FROM unnest(%s::bigint[]) v (id) CROSS JOIN LATERAL (
                SELECT count(*), count(DISTINCT product_id)
                FROM (SELECT e.product_id FROM {Embedding._meta.db_table} e WHERE e.version_id = v.id
                      ORDER BY e.product_id LIMIT %s) few
            ) counted""",
            [list(version_ids), COUNTED + 1],
        )
        found = {pk: (photos, products) for pk, photos, products in cursor.fetchall()}
    return {pk: _magnitudes(pk, *found[pk]) for pk in version_ids}


def _magnitudes(version_id: int, photos: int, products: int) -> tuple[Number, Number]:
    if photos <= COUNTED:
        return Number(photos), Number(products)
    number = max(estimate(Embedding.objects.filter(version=version_id).values("pk")), photos)
    # The first products have as many photos each as the others.
    return Number(number, is_about=True), Number(round(number * products / photos), is_about=True)


@dataclass(frozen=True)
class Gap:
    """What pages would lose if a version took the place of the active one now, in photos.

    Attributes:
        lacking: photos that the active version can show and this one has not yet, without the ones that failed.
        unqueued: those of the lacking that do not even wait in the outbox; a sweep queues them.
        lost: photos that the active version can show and that failed for this one.
        loses_too_much: whether those are too many to have been damaged or deleted one by one.
    """

    lacking: int = 0
    unqueued: int = 0
    lost: int = 0
    loses_too_much: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether no page would lose anything but what is lost for a reason."""
        return not self.lacking and not self.loses_too_much


def gap(version: ModelVersion, active: ModelVersion | None = None) -> Gap:
    """What pages would lose by ``version``, measured by the active version: by ``active`` if it is known already.

    One counting statement, a second one where photos failed. The active version itself loses nothing, and where no
    version is active there is nothing to lose.
    """
    active = active or ModelVersion.objects.defer("metrics").active()
    if active is None or active.pk == version.pk:
        return Gap()
    entries = OutboxEntry.objects.filter(version=version.pk, image_id=OuterRef("pk"))
    # Those of the active version that this one has not come first, of the two alone: joined to the photos before, they
    # are expected to be so few that each is looked up by itself.
    lacking = Embedding.objects.filter(version=active.pk).filter(
        ~Exists(
            Embedding.objects.filter(
                version=version.pk, image_id=OuterRef("image_id"), product_id=OuterRef("product_id")
            )
        )
    )
    photos = (
        _photos()
        .filter(Exists(lacking.filter(image_id=OuterRef("pk"), product_id=OuterRef(PRODUCT))))
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
    lost = photos["lost"]
    too_much = bool(lost) and lost > TOLERATED_FAILURES * _shown(active).count()
    return Gap(photos["all"] - lost, photos["unqueued"], lost, too_much)


def _photos() -> QuerySet:
    return get_catalogue().images().using(database.write_alias()).order_by()


def _shown(version: ModelVersion) -> QuerySet:
    """The photos of the shop that the version can show, each for its own product."""
    embeddings = Embedding.objects.filter(version=version.pk, image_id=OuterRef("pk"), product_id=OuterRef(PRODUCT))
    return _photos().filter(Exists(embeddings))


def lacks_index(version: ModelVersion, active: ModelVersion | None) -> bool:
    """Whether the active version is searched by an index that ``version`` has not yet."""
    if active is None or active.pk == version.pk:
        return False
    states = search_states([active.pk, version.pk])
    return states[active.pk].state == "ready" and states[version.pk].state != "ready"


@dataclass(frozen=True)
class Coverage(Gap):
    """How far a version is, in photos; beside the attributes of :class:`Gap`:

    Attributes:
        version: its name.
        photos: photos of the shop.
        embedded: those that it has.
        waiting: those in the outbox for it.
        failed: those given up, each with a sentence in the outbox.
        active: name of the active version that it is measured by; None where there is none or it is itself.
        shown: photos that the active version can show.
        share: share of the shop's photos that it has, 0 to 1.
        lacks_index: whether the active version is searched by an index and this one has none yet.
        fault: why the vectors that it has can't be searched with, as a sentence; empty if they can.
    """

    version: str = ""
    photos: int = 0
    embedded: int = 0
    waiting: int = 0
    failed: int = 0
    active: str | None = None
    shown: int = 0
    share: float = 1.0
    lacks_index: bool = False
    fault: str = ""

    @property
    def is_ready(self) -> bool:
        return self.is_complete and not self.lacks_index and not self.fault

    def obstacles(self) -> list[str]:
        """Why it can't take over now, as sentences; empty if it can."""
        sentences = [self.fault] if self.fault else []
        if self.lacking:
            sentences.append(
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
            sentences.append(
                _(
                    "%(lost)d of the %(shown)d photos that %(active)s shows failed for %(version)s: "
                    "`manage.py similarity_status` says why, "
                    "`manage.py embed_products --model %(version)s --retry-failed` tries them again."
                )
                % {"version": self.version, "lost": self.lost, "shown": self.shown, "active": self.active}
            )
        if self.lacks_index:
            sentences.append(
                _(
                    "%(version)s has no index yet: a running worker builds it, or run "
                    "`manage.py embed_products --model %(version)s`."
                )
                % {"version": self.version}
            )
        return sentences


def coverage(version: ModelVersion, *, exactly: bool = False) -> Coverage:
    """How far ``version`` is, measured by what the active version can show: for people, who want to know why not.

    The active version itself has nothing to be measured by: nothing is lacking there. Of more than 50,000 photos the
    outbox tells what is lacking, for comparing all of them takes seconds for each million.

    Args:
        version: a version.
        exactly: whether all photos are compared, however many there are.
    """
    active = ModelVersion.objects.defer("metrics").exclude(pk=version.pk).active()
    both = version_counts([version.pk] if active is None else [version.pk, active.pk])
    counts = both[version.pk]
    photos = count(get_catalogue().images())
    if active is None:
        shown = 0
    elif exactly or not photos.is_about:
        shown = _shown(active).count()
    else:
        shown = both[active.pk].embedded
    found = gap(version, active) if exactly or not photos.is_about else _gap_by_outbox(counts, active, shown)
    return Coverage(
        **vars(found),
        version=version.name,
        photos=photos,
        embedded=counts.embedded,
        waiting=counts.waiting,
        failed=counts.failed,
        active=active.name if active else None,
        shown=shown,
        share=counts.share(photos),
        lacks_index=lacks_index(version, active),
        fault=fault_of(version),
    )


def _gap_by_outbox(counts: VersionCounts, active: ModelVersion | None, shown: int) -> Gap:
    if active is None:
        return Gap()
    # What is not queued yet the sweep finds within minutes, and the switch itself compares all.
    return Gap(counts.waiting, 0, counts.failed, counts.failed > TOLERATED_FAILURES * shown)
