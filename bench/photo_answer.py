"""Seconds from a shopper's photo to the list of products, as a browser waits for them, the worker idle and busy.

    python -m bench.photo_answer --data FOLDER --cache CACHE [--count 20]

FOLDER holds photos/products.csv and shops/luma/products.csv. The shop runs with gunicorn, a worker, its first version
and U2-Net-p, whose weights and ImageNet's are kept in CACHE. Each photo is sent as the form's script sends it; then the
list is asked for. `idle`: nothing else is to be embedded; `busy`: all photos of the shop are, all the time. Processor
seconds are of web, worker and Postgres together, and do not grow where other programs run beside. The parts are
computed once more in this process, on one thread; what Postgres does for them is on the clock alone.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import io
import json
import os
import re
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil

from bench.machine import machine
from bench.running_shop import RATES_OFF, RunningShop, Setup, running_shop
from bench.snapshots import read_snapshots
from bench.timing import tails

_BOUNDARY = "a-photo-of-a-shopper"


class Browser:
    """What the script of the form asks for."""

    def __init__(self, shop: RunningShop) -> None:
        self.shop = shop
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())).open
        page = self._open(f"{shop.url}/similarity/search/").read().decode()
        self.token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]

    def search(self, photo: bytes) -> dict[str, float]:
        """Seconds until the photo is answered, and until its list has come."""
        began = time.perf_counter()
        body = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{self.token}\r\n'
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="photo"; filename="photo"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode() + (photo + f"\r\n--{_BOUNDARY}--\r\n".encode())
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}", "Accept": "application/json"}
        answer = self._open(urllib.request.Request(f"{self.shop.url}/similarity/search/", body, headers))
        url = json.loads(answer.read())["url"]
        answered = time.perf_counter()
        while True:
            request = urllib.request.Request(self.shop.url + url, headers={"X-Requested-With": "fetch"})
            html = self._open(request).read().decode()
            if 'data-visual-search-state="waiting"' not in html:
                break
        if "similar-products__item" not in html:
            raise RuntimeError(f"A photo found nothing:\n{html[:2000]}")
        return {"answer": answered - began, "list": time.perf_counter() - began}


def spent(shop: RunningShop) -> float:
    """Processor seconds so far of web, worker and Postgres."""
    total = 0.0
    roots = (
        shop.web.process.pid,
        shop.worker.process.pid,
        int((shop.postgres.data / "postmaster.pid").read_text().split()[0]),
    )
    for root in roots:
        for process in [psutil.Process(root), *psutil.Process(root).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
                # Backends and workers that are over count with who started them.
                total += times.children_user + times.children_system if process.pid == root else 0
    return total


@contextmanager
def busy_worker() -> Iterator[None]:
    """All photos of the shop are embedded anew, over and over."""
    from django.db import connection

    from catalog.models import Product
    from shop_similarity.embedding.reembedding import reembed
    from shop_similarity.models import OutboxEntry

    stop = threading.Event()

    def keep_busy() -> None:
        products = list(Product.objects.values_list("pk", flat=True))
        while not stop.is_set():
            if OutboxEntry.objects.count() < 100:
                reembed(products)
            stop.wait(0.2)
        connection.close()

    thread = threading.Thread(target=keep_busy, daemon=True)
    thread.start()
    time.sleep(3)
    try:
        yield
    finally:
        stop.set()
        thread.join()


def parts(photos: list[bytes]) -> dict[str, dict[str, float]]:
    """Median milliseconds of processor and clock of each thing that is done between photo and list."""
    import numpy as np
    from PIL import Image

    from shop_similarity.models import ModelVersion, VisualQuery
    from shop_similarity.search import SearchOptions
    from shop_similarity.visual_search.common_part import without_common_part
    from shop_similarity.visual_search.expansion import drawn_to_the_shop
    from shop_similarity.visual_search.results import products
    from shop_similarity.visual_search.uploads import prepare_photo
    from shop_similarity.workers import objects
    from shop_similarity.workers.embedder import get_embedder
    from shop_similarity.workers.visual_queries import _part

    version = ModelVersion.objects.active()
    embedder, finds = get_embedder(version), objects.network()
    embedder.warm_up()
    found: dict[str, list[tuple[float, float]]] = {}

    def part(name: str, action: Callable[..., Any], *arguments: Any) -> Any:
        processor, clock = time.process_time(), time.perf_counter()
        result = action(*arguments)
        found.setdefault(name, []).append((time.process_time() - processor, time.perf_counter() - clock))
        return result

    def unpacked(content: bytes) -> Image.Image:
        return Image.open(io.BytesIO(content)).convert("RGB")

    for photo in photos:
        small = part("web: decode, shrink, pack", prepare_photo, io.BytesIO(photo))
        image = part("worker: unpack", unpacked, small)
        boxes = part("worker: objects", objects.boxes_in, image, finds)
        prepared = part("worker: prepare", embedder.preprocessing.prepare, _part(image, boxes[0]) if boxes else image)
        vector = part("worker: embed", embedder.embed_one, prepared)
        rest = part("worker: less the mean", without_common_part, version, vector)
        drawn = part("worker: draw to the shop", drawn_to_the_shop, version, rest)
        query = VisualQuery(version=version, vector=np.asarray(drawn))
        part("web: search", products, query, SearchOptions(limit=24))
    return {
        name: {
            "processor_ms": round(1e3 * float(np.median(times, axis=0)[0]), 1),
            "ms": tails([t for _, t in times])["p50_ms"],
        }
        for name, times in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        given = os.environ.pop(name, None)
        if given:
            print(f"{name} is left to the worker itself.", file=sys.stderr)
    photos = [photo.path.read_bytes() for photo in read_snapshots(options.data, options.count)]
    print(json.dumps(machine()))
    from shop_similarity.training.networks.saliency.source import store_weights

    store_weights(options.cache, lambda *_: None)
    setup = Setup(
        real_network=True,
        catalogue=options.data / "shops" / "luma",
        similarity=RATES_OFF | {"WEIGHTS_CACHE": str(options.cache.resolve()), "VISUAL_SEARCH_WAIT_SECONDS": 30},
    )
    with running_shop(setup, lambda text: print(text, file=sys.stderr, flush=True)) as shop:
        browser = Browser(shop)
        # Until the networks are loaded and the small pictures of all that is found are there.
        for photo in photos:
            browser.search(photo)
        for name in ("idle", "busy"):
            with busy_worker() if name == "busy" else nullcontext():
                before = spent(shop)
                waited = [browser.search(photo) for photo in photos]
                processor = (spent(shop) - before) / len(waited)
            line = {
                f"{what}_{key}": value
                for what in ("answer", "list")
                for key, value in tails([w[what] for w in waited]).items()
            }
            if name == "idle":
                line["processor_ms"] = round(1e3 * processor, 1)
            print(json.dumps({"worker": name, "photos": len(waited)} | line), flush=True)
        # It would answer what this process submits.
        psutil.Process(shop.worker.process.pid).suspend()
        os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        for name, times in parts(photos).items():
            print(f"{name:28} {times['processor_ms']:8.1f} ms of processor {times['ms']:8.1f} ms", flush=True)


if __name__ == "__main__":
    main()
