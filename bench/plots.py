"""The plots of `docs/benchmarks.md`, drawn by matplotlib as SVG; the same figures give the same files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_COUNTS = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}


def draw(summary: Mapping[str, Any], folder: Path = IMAGES) -> None:
    """Write every plot whose figures are there."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "bench", "svg.fonttype": "none", "figure.figsize": (8, 3.6)}
    from matplotlib import pyplot

    plots: dict[str, Callable[[Any, Mapping[str, Any]], bool]] = {
        "search": _search,
        "likeness": _likeness,
        "stages": _stages,
        "embedding": _embedding,
        "backfill": _backfill,
    }
    for name, plot in plots.items():
        figure = pyplot.figure(layout="constrained")
        if plot(figure, summary):
            path = folder / f"bench-{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            # Spaces at the ends of lines are no figure's.
            path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
        pyplot.close(figure)


def _search(figure: Any, summary: Mapping[str, Any]) -> bool:
    ways = summary["search"]["ways"]
    sizes = [size for size in _COUNTS if ways.get(size)]
    times, recalls = figure.subplots(1, 2)
    for name in (
        "peer: exact scan",
        "peer: codes, re-ranked",
        "peer: PCA-512, re-ranked",
        "statement",
        "whole, page 1",
    ):
        points = [(_COUNTS[size], ways[size][name]) for size in sizes if name in ways[size]]
        times.plot(*zip(*((x, way["processor_ms"]) for x, way in points), strict=True), "o-", label=name)
    for name in ("statement", "statement, 50 %", "statement, 5 %", "statement, 0.5 %", "peer: codes, re-ranked"):
        points = [(_COUNTS[size], ways[size][name]["recall_at_10"]) for size in sizes if name in ways[size]]
        recalls.plot(*zip(*points, strict=True), "o-", label=name)
    times.set(xscale="log", yscale="log", xlabel="photos", ylabel="processor time, ms")
    recalls.set(xscale="log", xlabel="photos", ylabel="recall@10", ylim=(0.8, 1.01))
    for axes in (times, recalls):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return bool(sizes)


def _likeness(figure: Any, summary: Mapping[str, Any]) -> bool:
    found = summary["likeness"]
    if not found:
        return False
    axes = figure.subplots()
    for size, both in found["sizes"].items():
        (line,) = axes.plot(found["candidates"], both["real"]["recalls"], "-", label=f"{size} real photos")
        axes.plot(found["candidates"], both["made"]["recalls"], "--", color=line.get_color(), label=f"{size} made")
    axes.set(xscale="log", xlabel="candidates by code", ylabel="recall@10")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return True


def _stages(figure: Any, summary: Mapping[str, Any]) -> bool:
    found = summary["stages"]
    if not found:
        return False
    recalls, times = figure.subplots(1, 2)
    for stage in dict.fromkeys(row["stage"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["stage"] == stage]
        recalls.plot([row["compared"] for row in rows], [row["recall_at_10"] for row in rows], "o-", label=stage)
        timed = [row for row in rows if row.get("p50_ms")]
        if timed:
            times.plot([row["p50_ms"] for row in timed], [row["recall_at_10"] for row in timed], "o-", label=stage)
    recalls.set(xlabel="vectors read", ylabel="recall@10")
    times.set(xlabel="median, ms, a tenth of the vectors cached", ylabel="recall@10")
    for axes in (recalls, times):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return True


def _embedding(figure: Any, summary: Mapping[str, Any]) -> bool:
    versions = summary["embed"]["versions"]
    axes = figure.subplots()
    names = list(versions)
    for place, name in enumerate(names):
        axes.barh(place - 0.2, versions[name]["images_per_second"], 0.4, color="tab:blue")
        axes.barh(place + 0.2, versions[name]["predict_loop_images_per_second"], 0.4, color="tab:gray")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="photos a second, file to row (blue) and model.predict in a loop (grey)")
    axes.grid(alpha=0.3, axis="x")
    return bool(names)


def _backfill(figure: Any, summary: Mapping[str, Any]) -> bool:
    rates = summary["backfill"].get("rates")
    if not rates:
        return False
    axes = figure.subplots()
    axes.bar(range(1, 11), rates)
    axes.set(xlabel="tenth of the backfill", ylabel="photos a second")
    axes.grid(alpha=0.3, axis="y")
    return True
