"""Measures the plugin by parts, and writes what all parts found as one summary and one page.

    python -m bench [PARTS...] [--tiny] [--folder FOLDER]

Each part runs in a process of its own, beside a named peer, and leaves a file in `bench/results`; parts that are not
named keep the file of their last run. From those files come `bench/results/summary.json`, `docs/benchmarks.md` and the
plots in `docs/images`. `page` alone measures nothing. `--tiny` lets every part run at a size that says nothing, to see
that it runs; where it writes is told by `--results`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from bench import page, plots, summary

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ROOT.parent / "shared" / "data" / "photos"
SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts())}, page; all by default")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--results", type=Path, default=summary.RESULTS, help="folder of the parts' files")
    parser.add_argument("--folder", type=Path, help="where the shop of a million photos (13 GB) stays")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of photos that are embedded")
    options = parser.parse_args()
    known = parts(options.results, options.photos, options.folder, tiny=options.tiny)
    wanted = options.parts or list(known)
    if unknown := set(wanted) - {*known, "page"}:
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(known)} and page")
    options.results.mkdir(parents=True, exist_ok=True)
    failed = [name for name in wanted if name in known and not _run(name, known[name])]
    found = summary.summarise(options.results)
    summary.write(found, options.results)
    if options.results == summary.RESULTS:
        page.write(found)
        plots.draw(found)
    if failed:
        print(f"These parts failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def parts(
    results: Path = summary.RESULTS, photos: Path = PHOTOS, million: Path | None = None, *, tiny: bool = False
) -> Mapping[str, Sequence[Sequence[str]]]:
    """The commands of each part, after `python -m`.

    Args:
        results: folder that they write to.
        photos: folder of photos that are embedded.
        million: folder in which the shop of a million photos stays.
        tiny: at a size that says nothing.
    """
    few = ("--queries", "10", "--exact-queries", "5", "--seconds", "1", "--clients", "2", "--writes", "20")
    kept = ("--folder", str(million)) if million and not tiny else ()
    sizes = {"10k": 1_000} if tiny else SIZES
    shop = str(1_000 if tiny else SIZES["1m"])

    def json(name: str) -> tuple[str, str]:
        return "--json", str(results / f"{name}.json")

    found: dict[str, list[tuple[str, ...]]] = {
        "likeness": [("bench.made_vectors", *json("likeness"))],
        "search": [
            (
                "bench.search_paths",
                *("--photos", str(count), *json(f"search-{size}")),
                *(few if tiny else ()),
                *(kept if size == "1m" else ()),
            )
            for size, count in sizes.items()
        ],
        "libraries": [
            ("bench.in_process", "--photos", str(count), *json(f"libraries-{size}"))
            for size, count in sizes.items()
            if size != "1m"
        ],
        "stages": [
            (
                "bench.second_stage",
                *("--photos", "1000" if tiny else "100000", *json("stages")),
                *(("--queries", "5") if tiny else ()),
            )
        ],
        "plans": [("bench.query_plans", "--photos", shop, *json("plans"))],
        "save": [("bench.save_cost", "--photos", shop, *kept, *json("save"), *(("--saves", "5") if tiny else ()))],
        "workers": [("bench.worker_processes", "--photos", "64" if tiny else "4000", *json("workers"))],
        "embed": [
            (
                "bench.embedding_speed",
                *("--photos", str(photos), "--runtimes", "tensorflow,openvino", *json("embed")),
                *(("--shrunk", "--count", "8", "--rounds", "1") if tiny else ()),
            )
        ],
        "backfill": [("bench.backfill", "--photos", "200" if tiny else "100000", *json("backfill"))],
    }
    if find_spec("bench.engines"):
        found["engines"] = [("bench.engines", "--photos", shop, *kept, *json("engines"))]
    return found


def _run(name: str, commands: Sequence[Sequence[str]]) -> bool:
    for command in commands:
        print(f"{name}: python -m {' '.join(command)}", flush=True)
        if subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
