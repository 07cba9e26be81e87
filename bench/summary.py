"""What all parts found, in one file: `bench/results/summary.json`, from which the page and its plots are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
NAME = "summary.json"
SIZES = ("10k", "100k", "1m")
FILTERS = ("50 %", "5 %", "0.5 %")
PEER = "peer: exact scan"


def read(name: str, results: Path = RESULTS) -> dict[str, Any]:
    """The file of a part; empty where it has none."""
    path = results / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(summary: Mapping[str, Any], results: Path = RESULTS) -> None:
    (results / NAME).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def summarise(results: Path = RESULTS) -> dict[str, Any]:
    """The figures that count, by part; those of a part that has no file are null."""
    searches = {size: found for size in SIZES if (found := read(f"search-{size}", results))}
    return {
        "machine": next((found["machine"] for found in reversed(searches.values())), {}),
        "search": _search(searches),
        "libraries": {size: read(f"libraries-{size}", results).get("ways") for size in ("10k", "100k")},
        "likeness": read("likeness", results) or None,
        "stages": read("stages", results) or None,
        "embed": _embed(read("embed", results)),
        "save": _save(read("save", results)),
        "backfill": _backfill(read("backfill", results)),
        "workers": read("workers", results) or None,
        "engines": _engines(read("engines", results)),
        "plans": _plans(read("plans", results)),
    }


def _search(searches: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    def of(way: str, key: str) -> dict[str, float | None]:
        return {size: searches.get(size, {}).get("ways", {}).get(way, {}).get(key) for size in SIZES}

    def ratio(way: str, base: str, key: str) -> dict[str, float | None]:
        pairs = {size: (of(way, key)[size], of(base, key)[size]) for size in SIZES}
        return {size: round(a / b, 2) if a and b else None for size, (a, b) in pairs.items()}

    figures: dict[str, Any] = {
        "recall_at_10": of("statement", "recall_at_10"),
        "p50_ms": of("statement", "p50_ms"),
        "p95_ms": of("statement", "p95_ms"),
        "p99_ms": of("statement", "p99_ms"),
        "processor_ms": of("statement", "processor_ms"),
        "speedup_over_exact": ratio(PEER, "statement", "p50_ms"),
        "whole_p95_ms": of("whole, page 1", "p95_ms"),
        "filter": {
            share: {
                "recall": of(f"statement, {share}", "recall_at_10"),
                "ratio": ratio(f"statement, {share}", "statement", "p50_ms"),
                "processor_ratio": ratio(f"statement, {share}", "statement", "processor_ms"),
            }
            for share in FILTERS
        },
        "pages": {page: ratio(f"whole, {page}", "whole, page 1", "p50_ms") for page in ("page 2", "page 10")},
    }
    for key in ("ways", "clients", "cold", "written", "index_build_s", "index_mib", "shared_buffers", "machine"):
        figures[key] = {size: found.get(key) for size, found in searches.items()}
    return figures


def _embed(found: Mapping[str, Any]) -> dict[str, Any]:
    """The version that a shop gets by default, by each runtime."""
    versions = found.get("versions", {})
    names = ("images_per_second", "ratio_to_predict_loop", "share_of_limit")
    return {name: {key: values.get(name) for key, values in versions.items()} or None for name in names} | {
        "versions": versions,
        "machine": found.get("machine"),
    }


def _save(found: Mapping[str, Any]) -> dict[str, Any]:
    ways = found.get("ways", {})
    added = {name: way["added"]["p99_ms"] for name, way in ways.items()}
    return {
        "added_ms_p99": added.get("a product, broker refuses"),
        "added_by_way": {name: way["added"] for name, way in ways.items()},
        "photos": found.get("photos"),
        "machine": found.get("machine"),
        "note": found.get("note", ""),
    }


def _backfill(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"rate_first_and_last": None, **found}


def _engines(found: Mapping[str, Any]) -> dict[str, Any]:
    """Each engine in the same run, None where it was not measured."""
    by_name = found.get("engines", {})
    return {"milvus": by_name.get("milvus"), "pgvector": by_name.get("pgvector")} | {
        key: found.get(key) for key in ("photos", "machine", "index")
    }


def _plans(found: Mapping[str, Any]) -> dict[str, Any] | None:
    if not found:
        return None
    return {
        "photos": found["photos"],
        "note": found.get("note", ""),
        "flows": {
            flow["name"]: {
                "statements": len(flow["statements"]),
                "ms": round(sum(statement["ms"] for statement in flow["statements"]), 2),
                "rows": sum(statement["read"] for statement in flow["statements"]),
            }
            for flow in found["flows"]
        },
    }
