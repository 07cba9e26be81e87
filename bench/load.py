"""From one client to 64 that ask without a pause: how much does the shop do, and how does it give way?

    python -m bench.load --clients 1,2,4,8,16,32,64

The reference shop runs under gunicorn with a real worker. At each level the product page with the widget, its peer (the
same page of the same shop without the widget), the API's search, the search by photo, and a mixture of all are asked
for alone. Then, at the highest level: only large photos; the worker stopped; Valkey stopped; and the limits of rates as
they are by default. After each of these, and after the peak, one client has to find the shop as quick as in the
beginning. The exit status is 1 if a request was not answered or was answered with an error other than 429 and 503, if
either came without Retry-After, if a process was killed or ended, or if the shop did not recover. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from bench.observation import Observation, faults_in
from bench.photos import large_photos, small_photos
from bench.running_shop import PATIENCE, ROOT, CannotMeasure, RunningShop, Setup, require, running_shop
from bench.traffic import Request, Summary, summary, traffic

MIX = {"page": 10, "api": 5, "photo": 2, "click": 3}
ALONE = ("page", "plain", "api", "photo")
# One client finds the shop recovered when the median page takes no longer than this, compared with the beginning.
RECOVERED = 2.0
QUIET_SECONDS = 90.0


@dataclass
class Stage:
    """One level of one kind of traffic.

    Attributes:
        by_kind: what the requests brought.
        peak_mib: highest memory of the web's processes and their children together.
        wrong: requests that were not answered or not in order, by kind and status or error.
    """

    name: str
    clients: int
    by_kind: dict[str, Summary]
    peak_mib: dict[str, float]
    wrong: dict[str, int]
    quiet_after: float = 0.0


@dataclass
class Run:
    """The stages of a measurement and what went wrong beside them."""

    shop: RunningShop
    seconds: float
    small: Path
    stages: list[Stage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    faults: Counter = field(default_factory=Counter)

    def stage(
        self,
        name: str,
        clients: int,
        mix: dict[str, int],
        photos: Path | None = None,
        *,
        seconds: float | None = None,
        worker_is_there: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> Stage:
        """Let the clients ask for some seconds, then wait until the shop has nothing to do any more."""
        before = self.shop.web_workers()
        seconds = seconds or self.seconds
        requests, peak = self._requests(clients, mix, photos or self.small, seconds, meanwhile)
        kinds = sorted({request.kind for request in requests} - {"login", "save form"})
        by_kind = {kind: summary([request for request in requests if request.kind == kind], seconds) for kind in kinds}
        wrong = Counter(f"{r.kind}: {r.status or 'no answer'} {r.error}".strip() for r in requests if r.is_wrong)
        stage = Stage(name, clients, by_kind, peak, dict(wrong))
        stage.quiet_after = self._wait_until_quiet(worker_is_there)
        _print(stage)
        self.stages.append(stage)
        for what, count in wrong.items():
            self.problems.append(f"{name}, {clients} clients: {count} x {what}")
        if self.shop.web_workers() != before:
            self.problems.append(f"{name}, {clients} clients: gunicorn's workers are other ones than before")
        return stage

    def _requests(
        self, clients: int, mix: dict[str, int], photos: Path, seconds: float, meanwhile: Callable[[], object] | None
    ) -> tuple[list[Request], dict[str, float]]:
        peak: Counter = Counter()
        over = threading.Event()
        watch = threading.Thread(target=_watch_memory, args=(self.shop, peak, over))
        watch.start()
        try:
            with traffic(self.shop, photos, clients=clients, mix=mix) as running:
                requests: list[Request] = []
                waited = time.monotonic()
                while not requests:
                    if time.monotonic() - waited > 120:
                        raise CannotMeasure("Not one request was answered within two minutes.")
                    time.sleep(0.1)
                    requests += running.new_requests()
                if meanwhile:
                    meanwhile()
                time.sleep(seconds)
                requests += running.new_requests()
        finally:
            over.set()
            watch.join()
        return requests, dict(peak)

    def _wait_until_quiet(self, worker_is_there: bool) -> float:
        """Seconds until a page answers within two seconds and no photo waits, which takes a worker."""
        began = time.monotonic()
        look = Observation(self.shop)
        try:
            while (worker_is_there and look.sample().get("photos_waiting", 1)) or not self.shop.answers(
                self.shop.targets[0].url, 2.0
            ):
                if time.monotonic() - began > QUIET_SECONDS:
                    self.problems.append(f"the shop was not quiet {QUIET_SECONDS:.0f} s after the traffic had ended")
                    break
                if self.shop.web.ended() is not None:
                    raise CannotMeasure(f"gunicorn has ended:\n{self.shop.web.log_tail(30)}")
                time.sleep(0.2)
        finally:
            look.close()
        return time.monotonic() - began

    def recovery(self, first: dict[str, Stage], after: str) -> None:
        """One client, page and photo, compared with the beginning."""
        # Saved photos have no small pictures yet.
        self.shop.look_at_all()
        for kind, reference in first.items():
            now = self.stage(f"{kind} after {after}", 1, {kind: 1})
            past, present = reference.by_kind[kind].p50, now.by_kind[kind].p50 if kind in now.by_kind else float("inf")
            print(
                f"    recovery after {after}: {kind} p50 {present:.0f} ms, in the beginning {past:.0f} ms", flush=True
            )
            if not present <= RECOVERED * past:
                self.problems.append(f"{kind} takes {present:.0f} ms after {after}, {past:.0f} ms in the beginning")

    def collect_faults(self) -> None:
        """What the logs tell; the web's is begun anew with each start."""
        for name, log in (("web", self.shop.web_log), ("worker", self.shop.worker_log)):
            self.faults += Counter({f"{name}: {what}": count for what, count in faults_in(log).items()})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", default="1,2,4,8,16,32,64", help="levels, separated by commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each stage")
    parser.add_argument("--kinds", default=",".join((*ALONE, "mixed")), help="what is asked for, separated by commas")
    parser.add_argument("--faults", default="large,worker,valkey,rates", help="faults at the highest level; or none")
    parser.add_argument("--real-network", action="store_true", help="VGG16's weights, not a shrunk network")
    parser.add_argument("--catalogue", type=Path, help="folder with a products.csv; default: 48 products drawn by code")
    parser.add_argument("--workers", type=int, default=2, help="of gunicorn")
    parser.add_argument("--threads", type=int, default=8, help="of each of them")
    parser.add_argument("--output", type=Path, default=ROOT / ".data" / "bench", help="folder of the logs and the JSON")
    options = parser.parse_args()
    levels = sorted({int(word) for word in options.clients.split(",")})
    kinds = [word for word in options.kinds.split(",") if word]
    faults = [word for word in options.faults.split(",") if word and word != "none"]
    if unknown := {*kinds} - {*ALONE, "mixed"} | {*faults} - {*FAULTS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; faults are {', '.join(FAULTS)}")
    setup = Setup(options.real_network, options.catalogue, options.workers, options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        require("locust")
        with running_shop(setup, _say) as shop:
            run = Run(shop, options.seconds, small_photos(shop.folder / "photos"))
            try:
                measure(run, levels, kinds, faults)
            except KeyboardInterrupt:
                run.problems.append("interrupted")
            finally:
                for log in (shop.web_log, shop.worker_log):
                    (options.output / f"load-{log.name}").write_bytes(log.read_bytes() if log.exists() else b"")
            run.collect_faults()
            run.problems += shop.stop()
    except CannotMeasure as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; everything is stopped and deleted.", file=sys.stderr)
        return 130
    return _report(run, options.output / "load.json")


def measure(run: Run, levels: list[int], kinds: list[str], faults: list[str]) -> None:
    _say("first look at every page")
    run.shop.look_at_all()
    print(_HEAD)
    mixes = {kind: {kind: 1} for kind in ALONE} | {"mixed": MIX}
    # To warm up what each process makes at its first request.
    run.stage("warm-up", 4, MIX)
    first = {kind: run.stage(f"{kind}, first", 1, {kind: 1}) for kind in ("page", "photo")}
    for clients in levels:
        stages = {kind: run.stage(kind, clients, mixes[kind]) for kind in kinds}
        if "page" in stages and "plain" in stages:
            page, plain = stages["page"].by_kind["page"], stages["plain"].by_kind["plain"]
            ratios = f"{page.good / plain.good:.2f} of the throughput, {page.p50 / plain.p50:.2f} times the median"
            print(f"    {clients} clients: the page with the widget has {ratios} of the page without", flush=True)
    run.recovery(first, "the peak")
    for fault in faults:
        FAULTS[fault](run, levels[-1])
        run.recovery(first, fault)


def _large(run: Run, clients: int) -> None:
    folder = run.shop.folder / "large"
    run.stage("only large photos", clients, {"photo": 1}, large_photos(folder))
    run.stage("large photos and pages", clients, {"photo": 3, "page": 7}, folder)


def _worker(run: Run, clients: int) -> None:
    process = psutil.Process(run.shop.worker.process.pid)
    family = [process, *process.children(recursive=True)]
    away = {"worker_is_there": False}
    try:
        run.stage("worker stops", clients, MIX, meanwhile=lambda: [one.suspend() for one in family], **away)
    finally:
        for one in family:
            one.resume()
    process.kill()
    run.shop.worker.process.wait()
    run.stage("worker was killed", clients, MIX, **away)
    run.shop.start_worker()
    _until_answered(run)


def _valkey(run: Run, clients: int) -> None:
    run.stage("Valkey stops", clients, MIX | {"save": 10}, meanwhile=lambda: run.shop.valkey.stop())
    run.shop.valkey.start()


def _rates(run: Run, clients: int) -> None:
    run.shop.web.stop(PATIENCE)
    run.shop.start_web(similarity={})
    # One client address may send 20 photos a minute to each of gunicorn's processes, which share no cache.
    stage = run.stage("default rates", clients, {"photo": 4, "api": 4, "page": 2}, seconds=3 * run.seconds)
    if stage.by_kind["page"].errors:
        run.problems.append(f"with the default rates pages have errors: {stage.by_kind['page'].errors}")
    if 429 not in stage.by_kind["photo"].errors:
        run.problems.append("the default rates turned no photo away: let the stages last longer")
    run.shop.web.stop(PATIENCE)
    run.shop.start_web()


FAULTS = {"large": _large, "worker": _worker, "valkey": _valkey, "rates": _rates}


def _until_answered(run: Run) -> None:
    """Wait until the new worker answers a photo."""
    began = time.monotonic()
    while time.monotonic() - began < 120:
        stage = run.stage("new worker", 1, {"photo": 1})
        if stage.by_kind.get("photo") and stage.by_kind["photo"].good:
            return
    run.problems.append("the new worker answers no photo")


def _watch_memory(shop: RunningShop, peak: Counter, over: threading.Event) -> None:
    while not over.wait(0.25):
        for name, child in (("web", shop.web), ("worker", shop.worker)):
            total = 0.0
            try:
                process = psutil.Process(child.process.pid)
                for one in (process, *process.children(recursive=True)):
                    total += one.memory_info().rss / 2**20
            except psutil.Error:
                continue
            peak[name] = max(peak[name], total)


_HEAD = (
    f"{'stage':26} {'clients':>7} {'kind':6} {'answers/s':>9} {'good/s':>7} {'p50 ms':>7} {'p95 ms':>7} {'p99 ms':>7} "
    f"{'web MiB':>8} {'quiet s':>7}  errors by status"
)


def _print(stage: Stage) -> None:
    for kind, one in stage.by_kind.items():
        figures = f"{one.rate:9.1f} {one.good:7.1f} {one.p50:7.0f} {one.p95:7.0f} {one.p99:7.0f}"
        beside = f"{stage.peak_mib.get('web', 0):8.0f} {stage.quiet_after:7.1f}"
        print(f"{stage.name:26} {stage.clients:7} {kind:6} {figures} {beside}  {one.shares()}", flush=True)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _report(run: Run, path: Path) -> int:
    killed = {name: count for name, count in run.faults.items() if count and "traceback" not in name}
    if killed:
        run.problems.append(f"the logs tell of {killed}")
    for problem in run.problems:
        print(f"! {problem}")
    path.write_text(json.dumps([asdict(stage) for stage in run.stages], indent=1), encoding="utf-8")
    passed = not run.problems
    result = {"passed": passed, "stages": len(run.stages), "problems": run.problems, "logs": dict(run.faults)}
    print(json.dumps(result | {"file": str(path)}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
