"""How much of what the exact search finds the coded search of this shop finds, measured on a sample of its products."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.db.utils import OperationalError
from django.utils import timezone

from .. import database
from ..embedding.index import index_state
from ..models import ModelVersion
from ..search import Path, Query, find_matches
from .side_by_side import sample_products

PRODUCTS = 20
SECONDS = 5.0
_KEPT_SECONDS = 3_600


@dataclass(frozen=True)
class CodeRecall:
    """What was measured.

    Attributes:
        recall: share of the exact search's first ``k`` products that the coded search has too, 0 to 1; None where no
            product could be measured.
        k: how many products of each search count.
        products: how many products were asked with.
        path: ``"codes"`` or ``"index"``: how the coded search found its candidates.
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


def measure_code_recall(
    version: ModelVersion, *, products: int = PRODUCTS, k: int = 10, seconds: float = SECONDS, seed: int = 0
) -> CodeRecall:
    """Search with a sample of products both ways, without filters and rules, and count what is found.

    Ends after about ``seconds``, with what was measured by then; no single statement takes longer than is left.
    """
    path = Path.INDEX if index_state(version.pk).state == "ready" else Path.CODES
    deadline = time.monotonic() + seconds
    common = wanted = measured = 0
    exact_times: list[float] = []
    coded_times: list[float] = []
    sample = sample_products([version], products, seed)
    for product in sample:
        query = Query.of_product(version, product)
        try:
            began = time.monotonic()
            exact = _keys(version, query, product.pk, k, Path.EXACT, deadline)
            between = time.monotonic()
            coded = _keys(version, query, product.pk, k, path, deadline)
        except (TimeoutError, OperationalError):
            break
        exact_times.append(between - began)
        coded_times.append(time.monotonic() - between)
        common += len(exact & coded)
        wanted += len(exact)
        measured += 1
    return CodeRecall(
        common / wanted if wanted else None,
        k,
        measured,
        path.value,
        measured < len(sample),
        _median_ms(exact_times),
        _median_ms(coded_times),
        timezone.now(),
    )


def _keys(version: ModelVersion, query: Query, own: Any, k: int, path: Path, deadline: float) -> set:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    alias = database.read_alias()
    with database.atomic(alias):
        with database.cursor(alias) as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{max(int(left * 1_000), 1)}ms"])
        matches = find_matches(version, query, limit=k, among=None, exclude=[own], path=path)
    return {match.product_id for match in matches}


def _median_ms(times: list[float]) -> float | None:
    return round(1_000 * sorted(times)[len(times) // 2], 1) if times else None


def _cache_key(version: ModelVersion) -> str:
    return f"shop_similarity:code_recall:{version.pk}"


def remember(version: ModelVersion, measured: CodeRecall) -> None:
    """Keep a measurement for an hour in Django's cache."""
    cache.set(_cache_key(version), asdict(measured), _KEPT_SECONDS)


def remembered(version: ModelVersion) -> CodeRecall | None:
    """What was measured within the last hour."""
    values = cache.get(_cache_key(version))
    return CodeRecall(**values) if isinstance(values, dict) else None
