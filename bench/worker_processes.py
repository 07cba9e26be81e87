"""Measures how much faster two worker processes empty one outbox than one does.

    python -m bench.worker_processes --photos 4000

Each process has a core of its own and computes with one thread; Postgres runs on any core. The network is a shrunk one
of drawn weights, yet wide enough that a photo costs much more to compute than to write. The peer is one process. Times
begin when all processes have loaded the network. `per_processor_second` is told beside, for two processes that take
nothing from each other do as many photos in each second that they are given: what a machine with other work leaves to
say.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from bench.backfill import fill
from bench.machine import machine
from bench.shrunk_version import make_shrunk_version
from bench.temporary_shop import ROOT, temporary_shop

CONFIG = {"width": 0.25, "frozen_through": None}
SIDE = 64
_ONE_THREAD = {
    name: "1"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=4_000, help="for each process")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    described = machine()
    with temporary_shop() as folder:
        figures = {"machine": described, "photos_a_process": options.photos, **run(folder, options.photos)}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def run(folder: Path, photos: int) -> dict[str, Any]:
    """Photos a second by the number of processes."""
    from shop_similarity.embedding.sweep import sweep
    from shop_similarity.models import Embedding

    cores = sorted(os.sched_getaffinity(0))[:2]
    fill(folder / "media", photos * len(cores))
    make_shrunk_version(CONFIG, SIDE)
    processes: dict[str, dict[str, float]] = {}
    for count in range(1, len(cores) + 1):
        Embedding.objects.all().delete()
        sweep(files=False)
        if count < len(cores):
            _leave(photos * count)
        signals = folder / f"signals-{count}"
        signals.mkdir()
        children = [_start(signals, core) for core in cores[:count]]
        while len(list(signals.glob("ready-*"))) < count:
            if any(child.poll() is not None for child in children):
                raise SystemExit("A worker process ended before it began; its words stand above.")
            time.sleep(0.05)
        began = time.perf_counter()
        (signals / "go").touch()
        if any([child.wait() for child in children]):
            raise SystemExit("A worker process failed; its words stand above.")
        seconds = time.perf_counter() - began
        done = Embedding.objects.count()
        assert done == photos * count, (done, photos * count)
        worked = [json.loads(path.read_text()) for path in signals.glob("done-*")]
        processes[str(count)] = {
            "images_per_second": round(done / seconds, 1),
            "per_processor_second": round(done / sum(each["processor_s"] for each in worked), 1),
            "share_of_each": [round(each["photos"] / done, 3) for each in worked],
        }
        print(f"{count} processes: {processes[str(count)]}", flush=True)
    one, most = processes["1"], processes[str(len(cores))]
    return {
        "processes": processes,
        "ratio": round(most["images_per_second"] / one["images_per_second"], 2),
        "ratio_of_processor_time": round(most["per_processor_second"] / one["per_processor_second"], 2),
    }


def _leave(photos: int) -> None:
    """So many entries in the outbox."""
    from shop_similarity.models import OutboxEntry

    OutboxEntry.objects.exclude(pk__in=OutboxEntry.objects.order_by("pk").values("pk")[:photos]).delete()


def _start(signals: Path, core: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.worker_processes", "--work", str(signals / str(core))],
        cwd=ROOT,
        env=os.environ | _ONE_THREAD,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def work(place: Path) -> None:
    """One process: load, say so, wait for the word, empty the outbox, say what it took."""
    import django

    django.setup()
    from shop_similarity.models import ModelVersion
    from shop_similarity.workers.drain import drain
    from shop_similarity.workers.embedder import get_embedder

    version = ModelVersion.objects.active()
    get_embedder(version).warm_up()
    (place.parent / f"ready-{place.name}").touch()
    while not (place.parent / "go").exists():
        time.sleep(0.01)
    before = _processor_seconds()
    report = drain([version.pk])
    found = {"photos": report.embedded, "processor_s": _processor_seconds() - before}
    (place.parent / f"done-{place.name}").write_text(json.dumps(found))


def _processor_seconds() -> float:
    """Of this process and of its decoders."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


if __name__ == "__main__":
    main()
