"""How much of what the exact search finds the coded search of this shop finds, measured on a sample of its products.

Recall falls as a catalogue grows, and no page shows it. So workers measure it every night, without and behind a filter,
keep what they found, and dashboard, status and ``manage.py check`` say when it is below ``LEAST_RECALL``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models.functions import JSONObject
from django.db.utils import OperationalError
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from .. import database
from ..catalogue import get_catalogue
from ..catalogue.field_paths import setting_value
from ..conf import get_settings
from ..embedding.engines import is_beside
from ..embedding.engines.states import search_states
from ..engine_errors import EngineDown
from ..models import Embedding, ModelVersion, RecallSample
from ..search import Filters, Path, Query, find_matches
from .side_by_side import sample_products

logger = logging.getLogger(__name__)

PRODUCTS = 20
SECONDS = 5.0
# Of the measurement that nobody waits for.
NIGHTLY_PRODUCTS = 50
NIGHTLY_SECONDS = 300.0
# In the shop's own time; where no worker runs then, it is made up for.
_NIGHT = range(1, 6)
_LEAST_HOURS = 20
_MOST_HOURS = 30
_KEPT = timedelta(days=400)


@dataclass(frozen=True)
class CodeRecall:
    """What was measured.

    Attributes:
        recall: share of the exact search's first ``k`` products that the coded search has too, 0 to 1; None where no
            product could be measured.
        k: how many products of each search count.
        products: how many products were asked with.
        filtered_recall: as ``recall``, behind a filter by the product's own category; None where there is none.
        path: ``"codes"``, ``"index"`` or ``"engine"``: how the coded search found its candidates.
        is_cut_short: whether the time ran out before the whole sample was measured.
        exact_ms, coded_ms: median time of a search in milliseconds, None without a measurement.
        measured_at: when.
    """

    recall: float | None
    k: int
    products: int
    path: str
    is_cut_short: bool
    exact_ms: float | None
    coded_ms: float | None
    measured_at: datetime
    filtered_recall: float | None = None

    @property
    def lowest(self) -> float | None:
        """The lower one of both shares."""
        return min((share for share in (self.recall, self.filtered_recall) if share is not None), default=None)

    @property
    def is_low(self) -> bool:
        """Whether less is found than ``LEAST_RECALL`` asks for."""
        return self.lowest is not None and self.lowest < get_settings().least_recall

    def warning(self, version: str) -> str:
        """What is wrong and what to do, as a sentence; empty where nothing is."""
        if not self.is_low:
            return ""
        return _(
            "The search by codes with %(version)s found %(share)s %% of what the exact one finds (LEAST_RECALL: "
            "%(least)s %%). Raise CANDIDATES, and see in the dashboard whether the index is ready."
        ) % {
            "version": version,
            "share": number_format(100 * (self.lowest or 0), 1),
            "least": number_format(100 * get_settings().least_recall, 1),
        }


def measure_code_recall(
    version: ModelVersion,
    *,
    products: int = PRODUCTS,
    k: int = 10,
    seconds: float = SECONDS,
    seed: int = 0,
    is_filtered: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> CodeRecall:
    """Search with a sample of products both ways, without filters and rules, and count what is found.

    Ends after about ``seconds``, with what was measured by then; no single statement takes longer than is left.

    Args:
        is_filtered: whether to search behind a filter by the product's category too, where the shop has categories.
        stopped: asked between two products, ends the measurement.
    """
    path = Path.CODES
    if search_states([version.pk])[version.pk].state == "ready":
        path = Path.ENGINE if is_beside() else Path.INDEX
    deadline = time.monotonic() + seconds
    common, wanted = [0, 0], [0, 0]
    measured = 0
    exact_times: list[float] = []
    coded_times: list[float] = []
    sample = sample_products([version], products, seed)
    for product in sample:
        if stopped():
            break
        # The one in front says what there is to say, and a scan of everything for each photo takes its time.
        query = Query.of_product(version, product, photos=1)
        scopes = [None, _of_its_category(product)] if is_filtered else [None]
        try:
            for place, among in enumerate(scopes[: 1 + (scopes[-1] is not None)]):
                began = time.monotonic()
                exact = _keys(version, query, product.pk, k, Path.EXACT, deadline, among)
                between = time.monotonic()
                # Behind a filter the search chooses its path by what is left.
                coded = _keys(version, query, product.pk, k, None if place else path, deadline, among)
                if not place:
                    exact_times.append(between - began)
                    coded_times.append(time.monotonic() - between)
                common[place] += len(exact & coded)
                wanted[place] += len(exact)
        except (TimeoutError, OperationalError, EngineDown):
            break
        measured += 1
    shares = [found / count if count else None for found, count in zip(common, wanted, strict=True)]
    return CodeRecall(
        shares[0],
        k,
        measured,
        path.value,
        measured < len(sample),
        _median_ms(exact_times),
        _median_ms(coded_times),
        timezone.now(),
        shares[1],
    )


def _of_its_category(product: models.Model) -> models.QuerySet | None:
    """The products that a shopper sees who filters by this one's category; None where it has none."""
    value = setting_value("category")
    if value is None:
        return None
    categories = tuple(value.values(get_catalogue().all_products().filter(pk=product.pk))[:1])
    return Filters(categories).apply(get_catalogue().visible_products()) if categories else None


def _keys(
    version: ModelVersion,
    query: Query,
    own: Any,
    k: int,
    path: Path | None,
    deadline: float,
    among: models.QuerySet | None,
) -> set:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    alias = database.read_alias()
    with database.atomic(alias):
        with database.cursor(alias) as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{max(int(left * 1_000), 1)}ms"])
        matches = find_matches(version, query, limit=k, among=among, exclude=[own], path=path)
    return {match.product_id for match in matches}


def _median_ms(times: list[float]) -> float | None:
    return round(1_000 * sorted(times)[len(times) // 2], 1) if times else None


def remember(version: ModelVersion, measured: CodeRecall) -> None:
    """Keep a measurement in the database."""
    values = {field.name: getattr(measured, field.name) for field in fields(CodeRecall)}
    with database.atomic():
        samples = RecallSample.objects.using(database.write_alias())
        samples.create(version_id=version.pk, **values)
        samples.filter(measured_at__lt=timezone.now() - _KEPT).delete()


def with_samples(versions: models.QuerySet) -> models.QuerySet:
    """Model versions, each with its last measurement, so that :func:`remembered` needs no statement of its own."""
    samples = RecallSample.objects.filter(version=models.OuterRef("pk")).order_by("-measured_at")
    values = {field.name: field.name for field in fields(CodeRecall)}
    return versions.annotate(recall_sample=models.Subquery(samples.values(json=JSONObject(**values))[:1]))


def remembered(versions: Collection[ModelVersion]) -> dict[int, CodeRecall]:
    """What was last measured of each of these versions, by its key; one statement, none after :func:`with_samples`."""
    if not all(hasattr(version, "recall_sample") for version in versions):
        versions = with_samples(ModelVersion.objects.only("pk").filter(pk__in=[version.pk for version in versions]))
    return {
        version.pk: CodeRecall(**values | {"measured_at": datetime.fromisoformat(values["measured_at"])})
        for version in versions
        if (values := vars(version)["recall_sample"]) is not None
    }


@database.on_primary()
def is_due() -> bool:
    """Whether the active version is to be measured: once a night, and of a catalogue that is searched by codes."""
    version = ModelVersion.objects.only("pk").active()
    if version is None:
        return False
    last = RecallSample.objects.filter(version=version).values_list("measured_at", flat=True).first()
    now = timezone.now()
    if last is not None:
        hours = _LEAST_HOURS if timezone.localtime(now).hour in _NIGHT else _MOST_HOURS
        if now - last < timedelta(hours=hours):
            return False
    enough = get_settings().exact_rows
    return Embedding.objects.filter(version=version)[enough : enough + 1].exists()


@database.on_primary()
def measure_nightly(*, stopped: Callable[[], bool] = lambda: False) -> CodeRecall | None:
    """Measure the active version and keep it, unless another process is at it.

    Args:
        stopped: asked between two products, ends the work.
    """
    with database.long_lock("recall") as is_ours:
        if not is_ours or not is_due():
            return None
        version = ModelVersion.objects.active()
        if version is None:
            return None
        measured = measure_code_recall(
            version,
            products=NIGHTLY_PRODUCTS,
            seconds=NIGHTLY_SECONDS,
            # Another sample each night, so that in time all of the catalogue is looked at.
            seed=timezone.now().toordinal(),
            is_filtered=True,
            stopped=stopped,
        )
        if stopped():
            return None
        remember(version, measured)
    if warning := measured.warning(version.name):
        logger.warning(warning, extra={"version": version.name})
    return measured
