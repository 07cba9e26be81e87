"""The dashboard: how far everything is, what failed, which versions there are, what shoppers click."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db import models
from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import database
from ..catalogue import get_catalogue
from ..conf import get_settings
from ..embedding import bell, heartbeat, outbox
from ..embedding.coverage import version_counts
from ..embedding.engines.states import trouble
from ..embedding.index import IndexState
from ..embedding.magnitudes import COUNTED, Number, count
from ..embedding.sweep import last_runs
from ..feedback.comparison import Comparison, compare
from ..feedback.inference import wilson
from ..feedback.statistics import ClickRate, click_rates, clicks_by_position
from ..models import Embedding, Experiment, ModelVersion, OutboxEntry, Surface, SweepRun
from ..photos.thumbnails import Sources, sources
from ..rollout.recall import CodeRecall, measure_code_recall, remember, remembered
from . import access, journal
from .comparison import figure_rows
from .pages import admin_path, admin_url, render_page, row_key, way_back
from .pictures import WIDTHS, products_by_key, similar_products_url

FAILURES = 20
# Positions that are shown at once; the others wait behind a click.
_POSITIONS = 12
# Columns of the table of versions beside the live ones.
_RETIRED = 3
# A photo that waits for longer than this without a sign of a worker is worth a warning.
_QUIET = timedelta(minutes=10)

_State = ModelVersion.State


@dataclass(frozen=True)
class Queue:
    """What waits and what failed.

    Attributes:
        waiting: embeddings to be made, one for each photo and version.
        failed: photos that failed, whatever the number of versions.
        oldest: since when the oldest waits.
        tries: of the most tried one.
        claimed: those that workers hold right now.
    """

    waiting: Number
    failed: Number
    oldest: datetime | None
    tries: int
    claimed: int


@dataclass(frozen=True)
class VersionColumn:
    """One version in the table of versions."""

    version: ModelVersion
    embedded: Number
    products: Number
    waiting: Number
    failed: Number
    share: float
    index: IndexState
    recall: CodeRecall | None
    activate_url: str | None
    compare_url: str | None
    roll_back_url: str | None
    recall_url: str | None

    @property
    def is_small(self) -> bool:
        """Whether it has so few photos that workers build no index."""
        return self.index.state == "absent" and self.embedded <= get_settings().index_rows // 2

    @property
    def recall_warning(self) -> str:
        return self.recall.warning(self.version.name) if self.recall is not None else ""

    @property
    def is_active(self) -> bool:
        return self.version.state == _State.ACTIVE


@dataclass(frozen=True)
class Failure:
    """A photo that could not be embedded, with its picture where it can be shown at all.

    Attributes:
        entry: its newest entry in the outbox.
        reasons: each sentence with the names of the versions that it failed for.
        tries: of the version that tried most.
    """

    entry: OutboxEntry
    product: Any
    picture: Sources | None
    url: str | None
    reasons: list[tuple[str, list[str]]]
    tries: int

    @property
    def versions(self) -> list[str]:
        return [name for _sentence, names in self.reasons for name in names]


@dataclass(frozen=True)
class PositionRow:
    """Clicks on one position, one cell per version; None where a version never showed it."""

    position: int
    cells: list[ClickCell | None]


@dataclass(frozen=True)
class ClickCell:
    impressions: int
    clicks: int

    @property
    def rate(self) -> float:
        return self.clicks / self.impressions if self.impressions else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.clicks, self.impressions)


def urls(site: admin.AdminSite) -> list[URLPattern]:
    return [
        admin_path(site, "dashboard/", dashboard, "shop_similarity_dashboard", permission=access.VIEW_DASHBOARD),
        admin_path(site, "dashboard/retry/", retry, "shop_similarity_retry", permission=access.RETRY_FAILED, post=True),
        admin_path(
            site,
            "<int:pk>/recall/",
            measure_recall,
            "shop_similarity_recall",
            permission=access.VIEW_DASHBOARD,
            post=True,
        ),
    ]


def dashboard(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    """All of it on one page; neither the number of SQL statements nor their cost depends on the catalogue."""
    images = count(get_catalogue().images())
    versions = _shown_versions()
    columns = _columns(request, site, versions, images)
    active = next((column for column in columns if column.is_active), None)
    queue = _queue(columns)
    sweep = SweepRun.objects.first()
    _ended, under_way = last_runs()
    seen = heartbeat.last_seen()
    sign = _last_sign(seen)
    rates = click_rates()
    # Where most lists were shown: other places have lists of other lengths, and other habits.
    surface = max(rates, key=lambda rate: rate.impressions).surface if rates else ""
    position_versions, positions = _by_position([rate for rate in clicks_by_position() if rate.surface == surface])
    may = request.user.has_perm
    return render_page(
        request,
        site,
        "dashboard.html",
        _("Similar products"),
        {
            "images": images,
            "products": count(get_catalogue().all_products()),
            "active": active,
            "queue": queue,
            "sweep": sweep,
            "sweeps": [run for run in under_way if run.with_files],
            "seen": seen,
            "is_quiet": bool(
                queue.oldest
                and timezone.now() - queue.oldest > _QUIET
                and (sign is None or timezone.now() - sign > _QUIET)
            ),
            "columns": columns,
            "engine_trouble": trouble(),
            "has_actions": any(column.compare_url or column.activate_url or column.roll_back_url for column in columns),
            "figures": figure_rows([column.version for column in columns]),
            "failures": _failures(
                request, site, [column.version.pk for column in columns if column.version.state in ModelVersion.LIVE]
            ),
            "most_failures": FAILURES,
            "rates": rates,
            "most_rate": max((rate.interval[1] for rate in rates), default=1.0),
            "position_versions": position_versions,
            "positions": positions[:_POSITIONS],
            "more_positions": positions[_POSITIONS:],
            "last_position": positions[-1].position if positions else None,
            "position_surface": Surface(surface).label if surface else "",
            "waiting": [column for column in columns if column.waiting],
            "most_position_rate": max((cell.rate for row in positions for cell in row.cells if cell), default=0) or 1.0,
            "experiment": _experiment(),
            "records_events": get_settings().record_events,
            "retry_url": may(access.RETRY_FAILED) and admin_url(site, "shop_similarity_retry"),
            "compare_url": may(access.COMPARE_VERSIONS) and admin_url(site, "shop_similarity_compare"),
            "products_url": access.may_view_products(request) and admin_url(site, "shop_similarity_products"),
            "rules_url": may(access.VIEW_RULE) and admin_url(site, "shop_similarity_merchandisingrule_changelist"),
            "experiments_url": may(access.VIEW_EXPERIMENT) and admin_url(site, "shop_similarity_experiment_changelist"),
            "outbox_url": may("shop_similarity.view_outboxentry")
            and admin_url(site, "shop_similarity_outboxentry_changelist"),
            "versions_url": may("shop_similarity.view_modelversion")
            and admin_url(site, "shop_similarity_modelversion_changelist"),
        },
        entry="shop_similarity_dashboard_changelist",
    )


def _shown_versions() -> list[ModelVersion]:
    versions = sorted(
        ModelVersion.objects.defer("config", "preprocessing"),
        key=lambda version: (version.rank, -version.pk),
    )
    live = sum(version.state in ModelVersion.LIVE for version in versions)
    return versions[: live + _RETIRED]


def _columns(
    request: HttpRequest, site: admin.AdminSite, versions: list[ModelVersion], images: int
) -> list[VersionColumn]:
    counts = version_counts([version.pk for version in versions])
    measured = remembered(versions)
    active = next((version for version in versions if version.state == _State.ACTIVE), None)
    may_activate = request.user.has_perm(access.ACTIVATE_VERSION)
    compare = request.user.has_perm(access.COMPARE_VERSIONS) and admin_url(site, "shop_similarity_compare")
    columns = []
    for version in versions:
        embedded = counts[version.pk].embedded
        columns.append(
            VersionColumn(
                version=version,
                **vars(counts[version.pk]),
                share=counts[version.pk].share(images),
                recall=measured.get(version.pk) if embedded else None,
                activate_url=admin_url(site, "shop_similarity_activate", version.pk)
                if may_activate and version.state in (_State.CANDIDATE, _State.RETIRED)
                else None,
                compare_url=f"{compare}?old={active.pk}&new={version.pk}"
                if compare and embedded and active and version != active
                else None,
                roll_back_url=admin_url(site, "shop_similarity_roll_back")
                if may_activate and version.state == _State.STANDBY
                else None,
                recall_url=admin_url(site, "shop_similarity_recall", version.pk) if embedded else None,
            )
        )
    return columns


def _queue(columns: list[VersionColumn]) -> Queue:
    live = [column for column in columns if column.version.state in ModelVersion.LIVE]
    return Queue(
        waiting=Number(sum(column.waiting for column in live), is_about=any(c.waiting.is_about for c in live)),
        failed=_failed_photos([column.failed for column in live]),
        **vars(outbox.waiting()),
    )


def _failed_photos(of_versions: list[Number]) -> Number:
    """How many photos failed, each once; of very many as many as failed for the version with most of them."""
    if sum(of_versions) > COUNTED:
        return Number(max(of_versions), is_about=True)
    failed = OutboxEntry.objects.filter(failed_at__isnull=False, version__state__in=ModelVersion.LIVE).order_by()
    return Number(failed.values("image_id").distinct().count() if any(of_versions) else 0)


def _last_sign(seen: datetime | None) -> datetime | None:
    """When anybody last was at the photos that wait: a worker, or a command that embedded or claimed one."""
    newest = Embedding.objects.order_by("-pk").values_list("embedded_at", flat=True).first()
    claimed = OutboxEntry.objects.aggregate(until=Max("leased_until"))["until"]
    signs = [
        seen,
        newest,
        claimed and claimed - timedelta(seconds=get_settings().lease_seconds),
    ]
    return max(filter(None, signs), default=None)


def _failures(request: HttpRequest, site: admin.AdminSite, versions: list[int]) -> list[Failure]:
    """The photos that failed last, each once, for whatever versions."""
    failed = OutboxEntry.objects.filter(failed_at__isnull=False, version__in=versions).order_by()
    entries: dict[Any, list[OutboxEntry]] = {image: [] for image in outbox.last_failed(versions, FAILURES)}
    for entry in (
        failed.filter(image_id__in=entries)
        .select_related("version")
        .defer("version__metrics", "version__config", "version__preprocessing")
        .order_by("-failed_at", "-pk")
    ):
        entries[entry.image_id].append(entry)
    products = products_by_key(request, (group[0].product_id for group in entries.values() if group))
    return [_failure(request, site, group, products) for group in entries.values() if group]


def _failure(
    request: HttpRequest, site: admin.AdminSite, entries: list[OutboxEntry], products: dict[Any, models.Model]
) -> Failure:
    newest = entries[0]
    reasons: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        reasons[entry.last_error].append(entry.version.name)
    product = products.get(newest.product_id)
    photos = get_catalogue().product_photos(product) if product is not None else []
    file = next((photo.file for photo in photos if photo.image_id == newest.image_id), None)
    return Failure(
        newest,
        product,
        sources(file, WIDTHS),
        similar_products_url(request, site, product.pk) if product is not None else None,
        list(reasons.items()),
        max(entry.attempts for entry in entries),
    )


def _by_position(rates: list[ClickRate]) -> tuple[list[str], list[PositionRow]]:
    """Clicks by position and version."""
    sums: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
    for rate in rates:
        cell = sums[rate.position, rate.version]
        cell[0] += rate.impressions
        cell[1] += rate.clicks
    versions = list(dict.fromkeys(rate.version for rate in rates))
    return versions, [
        PositionRow(
            position,
            [ClickCell(*sums[position, version]) if (position, version) in sums else None for version in versions],
        )
        for position in sorted({position for position, _version in sums})
    ]


def _experiment() -> Comparison | None:
    experiment = Experiment.objects.running().select_related("control", "treatment").first()
    return compare(experiment) if experiment is not None else None


def retry(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    """Queue again one photo, for all versions that it failed for (``entry`` is any of them), or all photos.

    With ``version`` only what failed for that one is queued.
    """
    entries = OutboxEntry.objects.filter(failed_at__isnull=False)
    entry, version = (row_key(request.POST.get(name, "")) for name in ("entry", "version"))
    if entry is not None:
        entries = entries.filter(image_id__in=OutboxEntry.objects.filter(pk=entry).values("image_id"))
    if version is not None:
        entries = entries.filter(version=version)
    with database.atomic():
        versions = list(ModelVersion.objects.filter(outbox__in=entries).distinct())
        photos = entries.aggregate(photos=Count("image_id", distinct=True))["photos"]
        outbox.retry_failed(entries)
        said = ngettext("%d photo is queued again.", "%d photos are queued again.", photos) % photos
        journal.note(request, versions, said)
        database.on_commit(bell.ring)
    if photos:
        messages.success(request, said)
    else:
        messages.warning(request, _("Nothing was queued: these photos do not count as failed any more."))
    return HttpResponseRedirect(way_back(request, _home(site)))


def measure_recall(request: HttpRequest, site: admin.AdminSite, pk: int) -> HttpResponse:
    """Measure what the coded search of a version finds, and keep it."""
    version = get_object_or_404(ModelVersion, pk=pk)
    measured = measure_code_recall(version)
    remember(version, measured)
    if measured.recall is None:
        messages.warning(
            request,
            _("Nothing could be measured: there are too few embedded products, or one search took too long."),
        )
    return HttpResponseRedirect(f"{_home(site)}#versions")


def _home(site: admin.AdminSite) -> str:
    return reverse("admin:shop_similarity_dashboard", current_app=site.name)
