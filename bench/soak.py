"""Half an hour of steady traffic: does anything grow, leak or slow down?

    python -m bench.soak --minutes 30

The reference shop runs under gunicorn with a real worker, a Postgres and a Valkey of its own in a temporary folder.
Visitors look at product pages with the widget, ask the API, search with photos and click, and the shop replaces photos
in its admin, all at a steady rate. Every ten seconds a sample is taken. The last line is JSON: for each quantity its
growth an hour over the last two thirds of the time, by Theil and Sen, with a 95 % interval by a bootstrap over blocks,
and whether that makes it `flat`, `grows`, or leaves it `undecided`, which is what a run of a few minutes must expect.
The exit status is 1 if connections, files, threads or processes grow, anything outlives the shop, a request was not
answered or was answered with an error other than 429 and 503, or a process was killed.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np

from bench.observation import Observation, faults_in
from bench.photos import small_photos
from bench.running_shop import ROOT, CannotMeasure, RunningShop, Setup, require, running_shop
from bench.traffic import Request, Traffic, summary, traffic
from bench.trend import Trend, trend

SAMPLE_SECONDS = 10.0
# Requests a second on two cores: about half of what they can do.
RATES = {"page": 4.0, "api": 2.0, "photo": 0.5, "click": 1.0, "save": 0.25}
GROUPS = ("web", "web_children", "worker", "worker_children")
# Growth of more than this an hour is growth: as a part of the level, and for counts that must not grow at all.
PART_OF_LEVEL = 0.1
COUNT = 1.0
LEAKS = (
    *(f"{group}_{what}" for group in GROUPS for what in ("processes", "files", "threads", "zombies")),
    *("postgres_connections", "postgres_in_transaction", "valkey_clients", "temporary_files"),
)
MEMORY = (*(f"{group}_mib" for group in GROUPS), "valkey_mib")
QUEUES = ("outbox", "outbox_age_s", "photos_waiting")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--real-network", action="store_true", help="VGG16's weights, not a shrunk network")
    parser.add_argument("--catalogue", type=Path, help="folder with a products.csv; default: 48 products drawn by code")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on all rates: " + json.dumps(RATES))
    parser.add_argument("--workers", type=int, default=2, help="of gunicorn")
    parser.add_argument("--threads", type=int, default=8, help="of each of them")
    parser.add_argument("--output", type=Path, default=ROOT / ".data" / "bench", help="folder of the CSV and the plot")
    options = parser.parse_args()
    setup = Setup(options.real_network, options.catalogue, options.workers, options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        require("locust")
        with running_shop(setup, _say) as shop:
            samples, requests = soak(shop, options.minutes * 60, options.rate)
            faults = {"web": faults_in(shop.web_log), "worker": faults_in(shop.worker_log)}
            for log in (shop.web_log, shop.worker_log):
                (options.output / f"soak-{log.name}").write_bytes(log.read_bytes())
            left = shop.stop()
    except CannotMeasure as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; everything is stopped and deleted.", file=sys.stderr)
        return 130
    if not samples:
        print("Not one sample was taken: let it run for longer.", file=sys.stderr)
        return 1
    _write(samples, options.output / "soak.csv")
    trends = trends_of(samples)
    plot(samples, trends, options.output / "soak.png")
    return report(trends, requests, options.minutes * 60, faults, left, options.output)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def soak(shop: RunningShop, seconds: float, factor: float) -> tuple[list[dict[str, float]], list[Request]]:
    """Samples by name, and all requests. Ends early at Ctrl-C, with what there is."""
    photos = small_photos(shop.folder / "photos")
    _say("first look at every page")
    shop.look_at_all()
    look = Observation(shop)
    samples: list[dict[str, float]] = []
    requests: list[Request] = []
    rates = {kind: rate * factor for kind, rate in RATES.items()}
    began = time.monotonic()
    try:
        with traffic(shop, photos, rates=rates) as running:
            _say("traffic begins")
            while (now := time.monotonic() - began) < seconds:
                time.sleep(min(SAMPLE_SECONDS, seconds - now))
                samples.append(_sample(look, running, time.monotonic() - began, requests))
                _progress(samples[-1], len(samples))
                if shop.web.ended() is not None or shop.worker.ended() is not None:
                    raise CannotMeasure(
                        f"The web server or the worker has ended.\n{shop.web.log_tail()}\n{shop.worker.log_tail()}"
                    )
    except KeyboardInterrupt:
        _say("interrupted: what was sampled until now is evaluated")
    finally:
        look.close()
    return samples, requests


def _sample(look: Observation, running: Traffic, at: float, requests: list[Request]) -> dict[str, float]:
    new = running.new_requests()
    requests += new
    sample = {"seconds": at} | look.sample()
    for kind in RATES:
        found = summary([request for request in new if request.kind == kind], SAMPLE_SECONDS)
        sample |= {f"{kind}_rate": found.rate, f"{kind}_p50_ms": found.p50}
        sample |= {f"{kind}_p95_ms": found.p95, f"{kind}_p99_ms": found.p99}
    for name, status in {"429": 429, "503": 503, "none": 0}.items():
        sample[f"status_{name}"] = sum(request.status == status for request in new)
    sample["status_other"] = sum(not request.is_good and request.status not in (0, 429, 503) for request in new)
    return sample


def _progress(sample: dict[str, float], number: int) -> None:
    if number % 3:
        return
    errors = sum(sample[name] for name in sample if name.startswith("status_"))
    memory = " ".join(f"{group} {sample[f'{group}_mib']:.0f}" for group in GROUPS)
    _say(
        f"{sample['seconds']:6.0f} s  MiB: {memory}  Postgres {sample.get('postgres_connections', np.nan):.0f}  "
        f"outbox {sample.get('outbox', np.nan):.0f}  page p95 {sample['page_p95_ms']:.0f} ms  errors {errors:.0f}"
    )


def trends_of(samples: list[dict[str, float]]) -> dict[str, Trend]:
    """The trend of every quantity over the last two thirds of the samples."""
    late = samples[len(samples) // 3 :]
    hours = np.array([sample["seconds"] for sample in late]) / 3600
    found = {}
    latencies = [f"{kind}_{quantile}_ms" for kind in RATES for quantile in ("p50", "p95", "p99")]
    for name in (*LEAKS, *MEMORY, *QUEUES, *latencies):
        values = np.array([sample.get(name, np.nan) for sample in late], dtype=float)
        if np.isfinite(values).any():
            level = float(np.nanmedian(values))
            tolerance = PART_OF_LEVEL * level if name in MEMORY or name in latencies else COUNT
            found[name] = trend(hours, values, max(tolerance, COUNT))
    return found


def report(
    trends: dict[str, Trend], requests: list[Request], seconds: float, faults: dict, left: list[str], output: Path
) -> int:
    """Print the tables and the JSON line; the exit status."""
    print(f"\n{'kind':10} {'requests':>8} {'a second':>8} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}  errors by status")
    for kind in sorted({request.kind for request in requests}):
        one = summary([request for request in requests if request.kind == kind], seconds)
        figures = f"{one.rate:8.2f} {one.p50:8.0f} {one.p95:8.0f} {one.p99:8.0f}"
        print(f"{kind:10} {one.requests:8} {figures}  {one.shares()}")
    print(f"\n{'quantity':26} {'level':>9} {'an hour':>9} {'95 % interval':>21}  verdict")
    for name, one in trends.items():
        print(f"{name:26} {one.level:9.1f} {one.slope:9.2f} [{one.low:9.2f},{one.high:9.2f}]  {one.verdict}")
    wrong = [request for request in requests if request.is_wrong]
    for request in wrong[:10]:
        print(f"{request.kind}: {request.status} {request.error}")
    leaks = [name for name in LEAKS if name in trends and trends[name].verdict == "grows"]
    killed = sum(count for log in faults.values() for name, count in log.items() if name != "tracebacks")
    passed = not (leaks or left or wrong or killed)
    result = {
        "passed": passed,
        "requests": len(requests),
        "wrong": len(wrong),
        "leaks": leaks,
        "left_behind": left,
        "logs": faults,
        "trends": {
            name: {"slope": one.slope, "low": one.low, "high": one.high, "verdict": one.verdict}
            for name, one in trends.items()
        },
        "csv": str(output / "soak.csv"),
        "plot": str(output / "soak.png"),
    }
    print(
        json.dumps(result, default=float)
        .replace("-Infinity", "null")
        .replace("Infinity", "null")
        .replace("NaN", "null")
    )
    return 0 if passed else 1


def _write(samples: list[dict[str, float]], path: Path) -> None:
    names = list(dict.fromkeys(name for sample in samples for name in sample))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(samples)


def plot(samples: list[dict[str, float]], trends: dict[str, Trend], path: Path) -> None:
    """A panel for each kind of quantity; the line of a trend is drawn over the samples it was taken from."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        "Memory, MiB": [f"{group}_mib" for group in GROUPS],
        "Open files": [f"{group}_files" for group in GROUPS],
        "Threads": [f"{group}_threads" for group in GROUPS],
        "Processes": [f"{group}_processes" for group in GROUPS],
        "Connections, temporary files": ["postgres_connections", "valkey_clients", "temporary_files"],
        "Outbox": ["outbox", "outbox_age_s", "photos_waiting"],
        "Latency p50, ms": [f"{kind}_p50_ms" for kind in RATES],
        "Latency p95, ms": [f"{kind}_p95_ms" for kind in RATES],
        "Latency p99, ms": [f"{kind}_p99_ms" for kind in RATES],
        "Errors in 10 s": ["status_429", "status_503", "status_none", "status_other"],
    }
    figure, axes = pyplot.subplots(5, 2, figsize=(14, 18), sharex=True, layout="constrained")
    minutes = np.array([sample["seconds"] for sample in samples]) / 60
    start = minutes[len(samples) // 3]
    for axis, (title, names) in zip(axes.flat, panels.items(), strict=True):
        for name in names:
            values = np.array([sample.get(name, np.nan) for sample in samples], dtype=float)
            verdict = f": {trends[name].verdict}" if name in trends else ""
            (line,) = axis.plot(minutes, values, marker=".", linewidth=1, label=name + verdict)
            if name in trends and np.isfinite(trends[name].slope):
                late = minutes[minutes >= start]
                middle = np.median(late)
                axis.plot(
                    late,
                    trends[name].level + trends[name].slope * (late - middle) / 60,
                    color=line.get_color(),
                    linestyle="--",
                )
        axis.axvline(start, color="grey", linewidth=0.5)
        axis.set_title(title)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("minutes")
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    sys.exit(main())
