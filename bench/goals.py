"""What the figures are meant to reach, and why one does not where it doesn't."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.summary import FILTERS

# Why a goal is missed and what would close the distance, by its name: for people, so people write it.
REASONS: dict[str, str] = json.loads(Path(__file__).with_name("missed_goals.json").read_text())


@dataclass(frozen=True)
class Goal:
    """Attributes:
    name: what is measured.
    least, most: bounds; one of them.
    value: what was found; None where it was not measured.
    unit: behind the number.
    """

    name: str
    value: float | None
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def is_met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.least if self.least is not None else self.value <= self.most

    @property
    def target(self) -> str:
        return f">= {self.least:g}{self.unit}" if self.least is not None else f"<= {self.most:g}{self.unit}"


def _ratio(a: float | None, b: float | None) -> float | None:
    return round(a / b, 2) if a and b else None


def goals(summary: Mapping[str, Any]) -> Iterator[Goal]:
    search, backfill = summary["search"], summary["backfill"]
    yield Goal("recall@10, 100k", search["recall_at_10"]["100k"], least=0.99)
    yield Goal("p95 of the statement, 100k", search["p95_ms"]["100k"], most=10, unit=" ms")
    yield Goal("faster than the exact scan, 100k", search["speedup_over_exact"]["100k"], least=100, unit=" times")
    yield Goal("recall@10, 1m", search["recall_at_10"]["1m"], least=0.98)
    yield Goal(
        "statement at 1m by that at 100k",
        _ratio(search["p50_ms"]["1m"], search["p50_ms"]["100k"]),
        most=2,
        unit=" times",
    )
    built = search["index_build_s"]
    yield Goal("index build, 1m by 100k", _ratio(built.get("1m"), built.get("100k")), most=12, unit=" times")
    for share in FILTERS:
        found = search["filter"][share]
        for size in ("100k", "1m"):
            yield Goal(f"behind a filter of {share}, {size}", found["ratio"][size], most=2, unit=" times")
            yield Goal(f"recall behind a filter of {share}, {size}", found["recall"][size], least=0.97)
    for size in ("100k", "1m"):
        yield Goal(f"page 10 by page 1, {size}", search["pages"]["page 10"][size], most=3, unit=" times")
    cached = (search["ways"].get("100k") or {}).get("whole, from the cache", {})
    yield Goal("list from the cache, 100k", cached.get("p50_ms"), most=1, unit=" ms")
    for name, least in (("mildnet", 4), ("mildnet-lite", 20)):
        ratios = [
            values["ratio_to_predict_loop"]
            for version, values in summary["embed"]["versions"].items()
            if version.split(",")[0] == name
        ]
        yield Goal(f"{name} by the predict loop", max(ratios, default=None), least=least, unit=" times")
    busy = [values["busy"] for values in summary["embed"]["versions"].values()]
    yield Goal("network busy while work waits", min(busy, default=None), least=0.95)
    yield Goal("p99 that a save of a product takes longer, 1m", summary["save"]["added_ms_p99"], most=5, unit=" ms")
    rates = backfill["rate_first_and_last"]
    yield Goal("backfill, last tenth by the first", rates and _ratio(rates[1], rates[0]), least=0.9, unit=" times")
    yield Goal("save in its widget during a backfill", backfill.get("save_to_widget_seconds"), most=3, unit=" s")
    yield Goal("two worker processes by one", (summary["workers"] or {}).get("ratio"), least=1.8, unit=" times")
