"""``make chaos ARGS="--actions 200 --seed 7"``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.history import History, say
from tests.chaos.world import WORKERS, Editor, make_weights, running

_HELP = """
A random history of a shop: products and photos are created, replaced under their names, moved, deleted, edited by
several threads and processes at once and rolled back, model versions take over and back, shoppers click and search
with photos, while workers, Valkey and Postgres are killed, stopped and slowed in the middle of it, the storage fails on
every fifth read and the disk of the weights is full. Then everything is let calm down and compared with what has to be
true.

A seed always draws the same actions and faults in the same order. When exactly a process is hit, and so what a fault
meets, depends on the machine's timing, which no seed decides.

The last line is JSON; lost, duplicate, stale, outbox and errors must be 0, or the status is 1.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--actions", type=int, default=200, help="of a history (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the first history (default: 1)")
    parser.add_argument("--histories", type=int, default=1, help="one after another, each with the next seed")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs though nothing is wrong")
    options = parser.parse_args()
    # Servers and workers go with it, however it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="shop-similarity-chaos-"))
    # A server that runs as another user has to come through.
    folder.chmod(0o711)
    is_clean = True
    with running(folder) as world:
        world.set_up()
        (folder / "made").mkdir()
        weights = make_weights(folder / "made")
        from tests.chaos.world import make_versions

        make_versions(weights)
        for number in range(WORKERS):
            world.start_worker(number)
        editor = Editor(world)
        world.wait_for_workers()
        say(f"Servers and {WORKERS} workers run after {time.monotonic() - started:.0f} s, in {folder}.")
        for seed in range(options.seed, options.seed + options.histories):
            verdict = History(world, editor, seed, options.actions, weights).run()
            for sentence in [*verdict.violations, *verdict.faults]:
                say(f"seed {seed}: {sentence}")
            is_clean = is_clean and verdict.is_clean
            print(json.dumps(verdict.line()), flush=True)
        editor.stop()
    if is_clean and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"The logs are in {folder}.")
    return 0 if is_clean else 1


if __name__ == "__main__":
    # Before anything reads Django's settings.
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.chaos.settings"
    sys.exit(main())
