"""The page `docs/benchmarks.md`, made of the summary and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.goals import REASONS, goals
from bench.summary import FILTERS, SIZES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def write(summary: Mapping[str, Any]) -> None:
    PAGE.write_text(text(summary))


def text(summary: Mapping[str, Any]) -> str:
    """The page, in Markdown."""
    parts = (
        _head,
        _goals,
        _search,
        _likeness,
        _libraries,
        _stages,
        _embed,
        _backfill,
        _save,
        _engines,
        _points,
        _plans,
    )
    return "\n\n".join(part for each in parts if (part := each(summary))) + "\n"


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _described(machine: Mapping[str, Any] | None) -> str:
    if not machine:
        return "a machine that was not described"
    load = machine.get("load_before")
    busy = "" if load is None else f", load {load} before the measurement"
    return f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB{busy}"


def _head(summary: Mapping[str, Any]) -> str:
    return f"""# Benchmarks

This page and its plots are made by `make bench` from `bench/results/summary.json`. Each part can be run alone:
`make bench PARTS="search save"`; the parts are those of `python -m bench --help`. Each figure has a named peer that was
measured in the same run, in turns with it, for times of different runs on different days can't be compared.

Searches were measured on: {_described(summary["machine"])}. Part of that load
is what the measurement before left. Where other work ran at the same time, the ratios count and the times are too long;
the processor time beside them is what it takes by itself."""


def _goals(summary: Mapping[str, Any]) -> str:
    found = list(goals(summary))
    table = _table(("", "goal", "found", "met"), ((goal.name, goal.target, goal.value, goal.is_met) for goal in found))
    missed = [
        f"- **{goal.name}**: {REASONS[goal.name]}" for goal in found if goal.is_met is False and REASONS.get(goal.name)
    ]
    return "\n\n".join(
        [
            "## Goals",
            table,
            *(["Why those are missed, and what would close the distance:"] * bool(missed)),
            "\n".join(missed),
        ]
    ).rstrip()


def _search(summary: Mapping[str, Any]) -> str:
    search = summary["search"]
    sizes = [size for size in SIZES if search["ways"].get(size)]
    if not sizes:
        return ""
    names = list(dict.fromkeys(name for size in sizes for name in search["ways"][size]))
    rows = []
    for name in names:
        row: list[object] = [name]
        for size in sizes:
            way = search["ways"][size].get(name, {})
            row += [way.get("p50_ms"), way.get("p95_ms"), way.get("processor_ms"), way.get("recall_at_10")]
        rows.append(row)
    heads = ["", *(f"{size} {head}" for size in sizes for head in ("p50 ms", "p95", "processor ms", "recall@10"))]
    shares = _table(
        ("admits", *(f"{size}: {head}" for size in sizes for head in ("times as long", "recall"))),
        (
            [share, *(search["filter"][share][key][size] for size in sizes for key in ("ratio", "recall"))]
            for share in FILTERS
        ),
    )
    clients = [
        [size, what, number, figures["p50_ms"], figures["p95_ms"], figures["p99_ms"], figures["per_second"]]
        for size in sizes
        for what, by_number in (search["clients"].get(size) or {}).items()
        for number, figures in by_number.items()
    ]
    cold = [
        [size, what, figures["p50_ms"], figures["p95_ms"]]
        for size in sizes
        for what, figures in (search["cold"].get(size) or {}).items()
    ]
    written = [
        [
            size,
            search["index_build_s"].get(size),
            search["index_mib"].get(size),
            *((search["written"].get(size) or {}).get(key) for key in ("written_per_second", "deleted_per_second")),
        ]
        for size in sizes
    ]
    return f"""## Search

`python -m bench.search_paths --photos N`: made-up vectors that lie to each other as real ones do (below), one photo a
product. `statement` finds ten products by their photos; `whole` is `similar_products` with rules, variants, diversity
and the ORM, 24 products a page. The peers are pgvector by itself.

{_table(heads, rows)}

![Time and recall by the number of photos](images/bench-search.svg)

Behind a filter, against the same search without one:

{shares}

Several clients at a time, each a process that asks without a pause:

{_table(("photos", "", "clients", "p50 ms", "p95", "p99", "a second"), clients)}

After a restart, with nothing in the memory of Postgres or of the operating system, each search with another product:

{_table(("photos", "", "p50 ms", "p95"), cold)}

The index, and what is written and deleted a second while it is in place:

{_table(("photos", "built in s", "MiB", "rows written a second", "photos deleted a second"), written)}"""


def _likeness(summary: Mapping[str, Any]) -> str:
    found = summary["likeness"]
    if not found:
        return ""
    rows = [
        [int(size), kind, *(round(value, 3) for value in (*lie["cosines"][:5], *lie["recalls"][:4]))]
        for size, both in found["sizes"].items()
        for kind, lie in both.items()
    ]
    heads = (
        "photos",
        "",
        *(f"cosine with neighbour {rank}" for rank in found["ranks"][:5]),
        *(f"recall@10 of {count} by code" for count in found["candidates"][:4]),
    )
    return f"""## Real vectors and made ones

`python -m bench.made_vectors`: the neighbours of made vectors are as near as those of real photos, and codes find as
many of them.

{_table(heads, rows)}

![Recall of codes among real and made vectors](images/bench-likeness.svg)"""


def _libraries(summary: Mapping[str, Any]) -> str:
    rows = [
        [size, name, way["p50_ms"], way["p95_ms"], way["recall_at_10"], way["build_s"], way["mib"]]
        for size, ways in summary["libraries"].items()
        for name, way in (ways or {}).items()
    ]
    if not rows:
        return ""
    return f"""## Libraries in process

`python -m bench.in_process --photos N`: indexes that live in one process's memory, know of no filter, no rule and no
other process, and are lost with it.

{_table(("photos", "", "p50 ms", "p95", "recall@10", "built in s", "MiB"), rows)}

A million vectors of 4096 numbers take them 8 to 16 GB and were not tried."""


def _stages(summary: Mapping[str, Any]) -> str:
    found = summary["stages"]
    if not found:
        return ""
    rows = [
        [row["stage"], row["candidates"], row["compared"], row["recall_at_10"], row.get("p50_ms")]
        for row in found["rows"]
    ]
    return f"""## A second stage between codes and vectors

`python -m bench.second_stage --photos N`: codes name candidates, a short form of each vector chooses among them, and
what is left is compared exactly. Postgres reads past the operating system's cache here, and its own holds codes, index
and a tenth of the vectors, as on a machine that a catalogue has outgrown.

{_table(("second stage", "candidates by code", "vectors read", "recall@10", "p50 ms"), rows)}

![Recall by the number of vectors that are read](images/bench-stages.svg)

So it is not built in: of 200 candidates the best 50 by their codes alone hold all of the nearest ten, and reading 50
vectors takes no longer than reading 200 short forms and 20 vectors. A short form would take a gigabyte more for each
million photos
and have to be fitted anew for each version. What pays is to compare fewer: where vectors do not fit into memory, set
`CANDIDATES` to 64."""


def _embed(summary: Mapping[str, Any]) -> str:
    embed = summary["embed"]
    if not embed["versions"]:
        return ""
    keys = (
        "computes_in",
        "images_per_second",
        "predict_loop_images_per_second",
        "ratio_to_predict_loop",
        "limit_images_per_second",
        "share_of_limit",
        "busy",
        "one_ms",
    )
    heads = (
        "",
        "computes in",
        "photos a second",
        "peer: `model.predict` in a loop",
        "times the peer",
        "limit of the multiplications",
        "share of it",
        "network busy",
        "one photo, ms",
    )
    rows = [[name, *(version.get(key) for key in keys)] for name, version in embed["versions"].items()]
    return f"""## Embedding

`python -m bench.embedding_speed`, from file to row in Postgres, on {_described(embed["machine"])}.

{_table(heads, rows)}

![Photos a second by runtime](images/bench-embedding.svg)

{_workers(summary)}""".rstrip()


def _workers(summary: Mapping[str, Any]) -> str:
    found = summary["workers"]
    if not found:
        return ""
    rows = [
        [number, each["images_per_second"], each["per_processor_second"]] for number, each in found["processes"].items()
    ]
    return f"""`python -m bench.worker_processes`: worker processes of one thread and one core each, one outbox, on
{_described(found["machine"])}. {found["ratio"]:.2f} times as fast, {found["ratio_of_processor_time"]:.2f} times as many
photos for each second of a core.

{_table(("processes", "photos a second", "photos for each second of a core"), rows)}"""


def _backfill(summary: Mapping[str, Any]) -> str:
    found = summary["backfill"]
    if not found.get("photos"):
        return ""
    first, last = found["rate_first_and_last"]
    costs = found.get("processor_ms_first_and_last", (None, None))
    network = "the calibrated network" if found.get("real_network") else "a shrunk network of drawn weights"
    return f"""## Backfill

`python -m bench.backfill`: {found["photos"]:,} photos, {network}, a worker that is killed at 30 %, a photo that is
saved at 60 %, on {_described(found.get("machine"))}.

- {first:.1f} photos a second in the first tenth, {last:.1f} in the last; processor time of a photo {_cell(costs[0])} ms
  at first and {_cell(costs[1])} ms at last, worker and Postgres together.
- Memory of the worker: {found["memory_mib"]} MiB, {found["memory"]}.
- The killed worker's successor went on after {_cell(found["resumed_seconds"])} s, its start included; {found["lost"]}
  photos were lost.
- The saved photo was in its product's widget after {_cell(found["save_to_widget_seconds"])} s.

![Photos a second, tenth by tenth](images/bench-backfill.svg)"""


def _save(summary: Mapping[str, Any]) -> str:
    save = summary["save"]
    if not save["added_by_way"]:
        return ""
    keys = ("p50_ms", "p95_ms", "p99_ms", "processor_ms")
    rows = [[name, *(way.get(key) for key in keys)] for name, way in save["added_by_way"].items()]
    return f"""## Save

`python -m bench.save_cost --photos {save["photos"]}`: what the plugin's hooks add to a save in a shop of
{save["photos"]:,} photos, in milliseconds, against the same save without them. {save.get("note", "")}

{_table(("", "median", "p95", "p99", "processor time, median"), rows)}"""


def _engines(summary: Mapping[str, Any]) -> str:
    engines = summary["engines"]
    if not engines["milvus"]:
        return ""
    names = ("pgvector", "milvus")
    ways = list(engines["milvus"].get("ways") or {})
    keys = ("p50_ms", "p95_ms", "recall_at_10")
    rows = [[way, *(engines[name]["ways"].get(way, {}).get(key) for name in names for key in keys)] for way in ways]
    heads = ("", *(f"{name} {head}" for name in names for head in ("p50 ms", "p95", "recall@10")))
    return f"""## Engines

`python -m bench.engines --photos {engines["photos"]} --index {engines["index"]}`: who names candidates, in turns on the
same vectors, on {_described(engines["machine"])}. What each is for: [engines.md](engines.md).

{_table(heads, rows)}"""


def _points(summary: Mapping[str, Any]) -> str:
    """What a shop of a million photos met before, and what it meets now."""
    plans, search = summary["plans"], summary["search"]
    ways = search["ways"].get("1m") or {}
    if not plans or not ways:
        return ""

    def asked(flow: str) -> str:
        found = plans["flows"][flow]
        return f"{found['ms']:,.1f} ms, {found['rows']:,} rows read"

    def took(way: str) -> str:
        return f"{ways[way]['p50_ms']:.0f} ms, {ways[way]['processor_ms']:.0f} of processor time"

    rows = [
        (
            "search for ten",
            "55 ms, recall@10 .640",
            f"{took('statement')}, recall@10 {ways['statement']['recall_at_10']}",
        ),
        (
            "index built",
            "1,746 s, in the memory that the server has",
            f"{search['index_build_s']['1m']} s, in what it needs",
        ),
        ("second page of results", "a scan of all codes for each photo asked with", took("whole, page 2")),
        (
            "page that variants leave unfilled",
            "everything compared exactly, 8 GB",
            "30,000 photos in one statement at most",
        ),
        ("choice of the path, `published_at <= now()`", "20,000 rows counted for each page", "kept for a minute"),
        ("deletion of a photo", "a whole index read", asked("deletion of a photo")),
        ("a worker's tick", "the whole backlog, every five seconds", asked("worker's tick")),
        ("status", "everything counted, also twice a second", asked("API and demo, status")),
        (
            "count before a switch, both in the same minutes",
            "23.3 s, twice, once while workers could not write",
            "4.8 s, once, before anything is locked",
        ),
        ("more than 500 rules that hide", "arbitrary ones dropped", "all of them count"),
        ("drain of a backlog", "nothing swept or rolled up meanwhile", "jobs beside the clock"),
        ("sweep of files on S3", "one file after the other, begun anew after a deploy", "goes on where it was"),
        ("thumbnails on S3", "times and sizes asked for on each card", "kept"),
    ]
    return f"""## A million photos, before and after

Times of statements were taken beside other work (load 12 to 18); rows read are what counts.

{_table(("", "before", "now"), rows)}"""


def _plans(summary: Mapping[str, Any]) -> str:
    plans = summary["plans"]
    if not plans:
        return ""
    rows = ([name, flow["statements"], flow["ms"], flow["rows"]] for name, flow in plans["flows"].items())
    return f"""## Every statement

`python -m bench.query_plans --photos {plans["photos"]}`: what each page, save, tick and dashboard asks of Postgres in a
shop of {plans["photos"]:,} photos with a candidate that waits for a tenth of them. No index over the codes is here,
so the page that is found anew compares all; searches are measured above. {plans.get("note", "")}

{_table(("", "statements", "ms", "rows read"), rows)}"""
