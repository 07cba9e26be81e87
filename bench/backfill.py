"""A whole catalogue embedded at once, as after the installation: rate, memory, a worker that is killed, a save between.

    python -m bench.backfill [--photos 100000] [--real-network]

The reference shop runs as it is deployed, with one worker. So many drawn photos, no two of the same bytes, are put into
its tables without a word to the plugin; one sweep queues them. From then on the number of embeddings and the worker's
memory are read every ten seconds, and the processor time of worker and Postgres, which tells of the rate on a machine
that has other work too; for the last time as soon as nothing waits, for then the index is built, whose time belongs to
no photo of the last tenth. At 30 % the worker is killed with SIGKILL and started anew; at 60 % a photo of one product
is saved, and it is measured how long its widget takes to follow. The peer of the rate is the first tenth of the same
run: a backfill that slows down with what it has done has a ratio below 1. The last line is JSON. The exit status is 1
if a photo was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from bench.machine import machine
from bench.observation import MIB
from bench.running_shop import CannotMeasure, RunningShop, Setup, running_shop
from bench.trend import trend

if TYPE_CHECKING:
    from catalog.models import Product

SAMPLE_SECONDS = 10.0
LOOK_SECONDS = 0.25
KILLED_AT, SAVED_AT = 0.3, 0.6
PATIENCE_SECONDS = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--real-network", action="store_true", help="a calibrated first version, not a shrunk network")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    options = parser.parse_args()
    described = machine()
    try:
        with running_shop(Setup(options.real_network), say) as shop:
            result = backfill(shop, options.photos) | {"machine": described, "real_network": options.real_network}
    except CannotMeasure as problem:
        print(problem, file=sys.stderr)
        return 1
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(result["lost"] > 0)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def backfill(shop: RunningShop, photos: int) -> dict[str, object]:
    """Figures by name: photos a second of the first and the last tenth, MiB, seconds."""
    from shop_similarity.embedding.sweep import sweep
    from shop_similarity.models import Embedding

    say(f"{photos:,} photos")
    fill(shop.folder / "media", photos)
    before = Embedding.objects.count()
    began = time.monotonic()
    queued = sweep(files=False).enqueued
    queueing = time.monotonic() - began
    # The worker is at it since the first were queued. What it has embedded by now took time that is not measured, and
    # would make the first tenth look as much faster.
    ahead = Embedding.objects.count() - before
    say(f"queued {queued:,} photos in {queueing:.1f} s, of which {ahead:,} are embedded")
    before, queued = before + ahead, queued - ahead
    times, counts, memory, worked = [0.0], [0], [worker_mib(shop)], [processor_seconds(shop)]
    began = time.monotonic()
    resumed = followed = None
    while counts[-1] < queued:
        wait_for_sample()
        times.append(time.monotonic() - began)
        counts.append(Embedding.objects.count() - before)
        memory.append(worker_mib(shop))
        worked.append(processor_seconds(shop))
        left = (queued - counts[-1]) / max(counts[-1] / times[-1], 1e-9)
        say(f"{counts[-1]:,} of {queued:,}, {memory[-1]:.0f} MiB, about {left / 60:.0f} min left")
        if resumed is None and KILLED_AT * queued < counts[-1] < queued:
            # What the killed one had worked is forgotten with it.
            lost_seconds = processor_seconds(shop)
            resumed = kill_and_start(shop, before)
            lost_seconds -= processor_seconds(shop)
            worked = [seconds - lost_seconds for seconds in worked]
        if followed is None and counts[-1] > SAVED_AT * queued:
            followed = save_and_look(shop)
        if len(counts) > 12 and counts[-1] == counts[-12]:
            break
    lost = queued - counts[-1]
    hours, held = np.array(times[1:]) / 3600, np.array(memory[1:])
    growth = trend(hours, held, 0.1 * float(np.median(held)))
    first, last = rate_of(times, counts, 0.0, 0.1), rate_of(times, counts, 0.9, 1.0)
    costs = [1e3 / rate_of(worked, counts, start, start + 0.1) for start in (0.0, 0.9)]
    print(f"\n{'':34}{'photos/s':>10}{'of peer':>9}")
    print(f"{'peer: the first tenth':34}{first:10.1f}{1:9.2f}")
    print(f"{'the last tenth':34}{last:10.1f}{last / first:9.2f}")
    print(f"processor time of a photo {costs[0]:.1f} ms at first, {costs[1]:.1f} ms at last")
    print(f"memory of the worker {np.median(held):.0f} MiB, an hour {growth.slope:+.0f} MiB: {growth.verdict}")
    print(f"killed and going on after {resumed or 0:.1f} s; a save is in its widget after {followed or 0:.1f} s")
    print(f"lost: {lost} of {queued:,}")
    return {
        "photos": queued + ahead,
        "embedded_meanwhile": ahead,
        "queued_per_second": round((queued + ahead) / queueing, 1),
        "rate_first_and_last": [round(first, 1), round(last, 1)],
        "rates": [round(rate_of(times, counts, tenth / 10, (tenth + 1) / 10), 1) for tenth in range(10)],
        "processor_ms_first_and_last": [round(cost, 2) for cost in costs],
        "memory_mib": round(float(np.median(held))),
        "memory": growth.verdict,
        "resumed_seconds": resumed and round(resumed, 1),
        "save_to_widget_seconds": followed and round(followed, 1),
        "lost": lost,
    }


def wait_for_sample() -> None:
    """Until the next sample is due or nothing waits any more."""
    from shop_similarity.models import OutboxEntry

    until = time.monotonic() + SAMPLE_SECONDS
    # By an index, past what is settled.
    waiting = OutboxEntry.objects.order_by("version_id", "image_id").values_list("pk", flat=True)
    while time.monotonic() < until and waiting.first() is not None:
        time.sleep(LOOK_SECONDS)


def fill(media: Path, photos: int) -> None:
    """Products with two photos each, behind the plugin's back; each file has bytes of its own."""
    from catalog.models import Category, Product, ProductPhoto
    from catalog.sources.drawn import COLOURS, KINDS, PATTERNS, draw_product

    folder = media / "backfill"
    folder.mkdir(parents=True)
    bodies = []
    for number, (kind, pattern) in enumerate(itertools.product(KINDS, PATTERNS)):
        path = folder / "body.jpg"
        draw_product(kind, list(COLOURS.values())[number % len(COLOURS)], pattern, number, 0.8).resize((320, 320)).save(
            path, quality=85
        )
        bodies.append(path.read_bytes())
    path.unlink()
    category = Category.objects.create(name="Backfill", slug="backfill")
    for start in range(0, photos, 2_000):
        numbers = range(start, min(start + 2_000, photos))
        products = Product.objects.bulk_create(
            Product(name=f"b{number}", slug=f"b{number}", sku=f"b{number}", category=category, is_published=True)
            for number in numbers[::2]
        )
        for number in numbers:
            # What follows the end of a JPEG is nobody's picture, but makes its bytes another photo's.
            (folder / f"{number}.jpg").write_bytes(bodies[number % len(bodies)] + number.to_bytes(8, "big"))
        ProductPhoto.objects.bulk_create(
            ProductPhoto(product=products[(number - start) // 2], file=f"backfill/{number}.jpg", position=number % 2)
            for number in numbers
        )


def kill_and_start(shop: RunningShop, before: int) -> float:
    """Seconds from the death of the worker to its successor's first embedding, its start included."""
    from shop_similarity.models import Embedding, OutboxEntry

    say("the worker is killed")
    began = time.monotonic()
    for process in (psutil.Process(shop.worker.process.pid), *children_of(shop)):
        process.kill()
    shop.worker.process.wait()
    done = Embedding.objects.count()
    shop.start_worker()
    # It may have embedded the last photo meanwhile.
    return waited(began, lambda: Embedding.objects.count() > done or not OutboxEntry.objects.exists())


def save_and_look(shop: RunningShop) -> float:
    """Seconds from the save of a product's photo to a widget that was made with it."""
    from django.core.files.base import ContentFile

    from catalog.models import Product
    from shop_similarity.models import Embedding

    product = Product.objects.get(sku="b0")
    photo = product.photos.first()
    old = set(Embedding.objects.filter(image_id=photo.pk).values_list("content_sha256", flat=True))
    content = Path(photo.file.path).read_bytes() + b"another"
    began = time.monotonic()
    photo.file.save("another.jpg", ContentFile(content))

    def has_followed() -> bool:
        now = set(Embedding.objects.filter(image_id=photo.pk).values_list("content_sha256", flat=True))
        return bool(now - old) and page_has_cards(shop, product)

    return waited(began, has_followed)


def page_has_cards(shop: RunningShop, product: Product) -> bool:
    with urllib.request.urlopen(shop.url + product.get_absolute_url(), timeout=30) as answer:
        return b"data-similarity-product=" in answer.read()


def waited(began: float, condition: Callable[[], bool]) -> float:
    while not condition():
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise CannotMeasure(f"Nothing has happened for {PATIENCE_SECONDS:.0f} s.")
        time.sleep(0.1)
    return time.monotonic() - began


def rate_of(times: list[float], counts: list[int], start: float, end: float) -> float:
    """Photos a second between two shares of what was done, interpolated between the samples."""
    total = counts[-1]
    moments = np.interp([start * total, end * total], counts, times)
    return float((end - start) * total / max(moments[1] - moments[0], 1e-9))


def children_of(shop: RunningShop) -> Iterator[psutil.Process]:
    yield from psutil.Process(shop.worker.process.pid).children(recursive=True)


def processor_seconds(shop: RunningShop) -> float:
    """Of the worker and of Postgres, with all processes that they have started."""
    total = 0.0
    for root in (shop.worker.process.pid, int((shop.postgres.data / "postmaster.pid").read_text().split()[0])):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            own = process.cpu_times()
            # Those that have ended count in the one that they belonged to.
            total += own.user + own.system + own.children_user + own.children_system
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = child.cpu_times()
                    total += times.user + times.system + times.children_user + times.children_system
    return total


def worker_mib(shop: RunningShop) -> float:
    """Memory of the worker and its children, pages that they share counted in each."""
    try:
        processes = [psutil.Process(shop.worker.process.pid), *children_of(shop)]
        return sum(process.memory_info().rss for process in processes) / MIB
    except psutil.NoSuchProcess:
        return 0.0


if __name__ == "__main__":
    sys.exit(main())
