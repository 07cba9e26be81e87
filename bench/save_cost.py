"""Times the save of a photo and of a product with the plugin's hooks against the same saves without them.

    python -m bench.save_cost
    python -m bench.save_cost --photos 1000000 --folder FOLDER --json FILE

In a shop of so many photos, or in an empty one. The peer is the same save without the plugin; both take turns, and who
comes first changes, so that what else the machine does falls on all. Once with a broker whose port refuses, and once
with one that takes connections and never says a word. Saves are in autocommit, where the outbox row is a second commit.
`added` is the difference of two medians, of two 99th percentiles, and of two medians of processor time.
"""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import machine
from bench.temporary_shop import temporary_shop
from bench.timing import processor_seconds, tails, timed

_MARK = "save-cost"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=0, help="of the shop")
    parser.add_argument("--folder", type=Path, help="where the shop stays for the next measurement")
    parser.add_argument("--saves", type=int, default=300)
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    options = parser.parse_args()
    with temporary_shop(options.folder):
        figures = run(options.photos, options.saves)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")


def run(photos: int, saves: int) -> dict[str, Any]:
    from django.conf import settings

    from catalog.models import Category, Product, ProductPhoto
    from shop_similarity.embedding import bell
    from shop_similarity.hooks import connect_hooks
    from shop_similarity.models import ModelVersion, OutboxEntry

    if photos:
        from bench.made_shop import make_shop

        make_shop(photos)
    else:
        ModelVersion.objects.create(name="bench", architecture="mildnet", weights_sha256="0", state="active")
    category, _made = Category.objects.get_or_create(slug=_MARK, defaults={"name": "Things"})
    product, _made = Product.objects.get_or_create(slug=_MARK, defaults={"sku": _MARK, "category": category})

    # With as many photos as most have; the other one gets a photo with each save of a new one.
    usual, _made = Product.objects.get_or_create(
        slug=f"{_MARK}-2", defaults={"sku": f"{_MARK}-2", "category": category}
    )
    for position in range(2):
        ProductPhoto.objects.create(product=usual, file=f"{_MARK}-{position}.jpg", position=position)

    def save_new() -> Callable[[], None]:
        return ProductPhoto(product=product, file=f"{_MARK}.jpg").save

    def save_again() -> Callable[[], None]:
        return ProductPhoto.objects.filter(product=product).last().save

    figures: dict[str, Any] = {"photos": photos, "machine": machine(), "ways": {}}
    silent = socket.create_server(("127.0.0.1", 0))
    print(f"{'':36} {'median ms':>10} {'p99 ms':>8} {'added':>8} {'p99':>8} {'cpu':>8}")
    for broker, port in (("refuses", 1), ("is silent", silent.getsockname()[1])):
        settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{port}/0"
        bell._app.cache_clear()
        for what, made in (
            ("a new photo", save_new),
            ("a photo again", save_again),
            ("a product", lambda: usual.save),
            ("a product of hundreds of photos", lambda: product.save),
        ):
            (peer, peer_worked), (ours, worked) = _in_turns(made, saves)
            figure = {"peer": tails(peer), "with hooks": tails(ours)}
            figure["added"] = {
                name: round(value - figure["peer"][name], 3) for name, value in figure["with hooks"].items()
            }
            figure["added"]["processor_ms"] = round(1e3 * float(np.median(worked) - np.median(peer_worked)), 3)
            figures["ways"][f"{what}, broker {broker}"] = figure
            print(
                f"{what + ', broker ' + broker:36} {figure['with hooks']['p50_ms']:10.2f} "
                f"{figure['with hooks']['p99_ms']:8.2f} {figure['added']['p50_ms']:8.2f} "
                f"{figure['added']['p99_ms']:8.2f} {figure['added']['processor_ms']:8.2f}",
                flush=True,
            )
    assert OutboxEntry.objects.filter(product_id=product.pk).count() >= saves
    connect_hooks()
    keys = [product.pk, usual.pk]
    Product.objects.filter(pk__in=keys).delete()
    category.delete()
    OutboxEntry.objects.filter(product_id__in=keys).delete()
    return figures


def _in_turns(made: Callable[[], Callable[[], None]], saves: int) -> list[tuple[list[float], list[float]]]:
    """Seconds of saves, and of the processor for them, without the hooks and with them."""
    from django.db import connection

    from shop_similarity.hooks import connect_hooks, disconnect_hooks

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (server,) = cursor.fetchone()
    found: list[tuple[list[float], list[float]]] = [([], []), ([], [])]
    for turn in range(saves + 1):
        for hooked in (turn % 2, 1 - turn % 2):
            (connect_hooks if hooked else disconnect_hooks)()
            save = made()
            worked = processor_seconds(server)
            times, work = found[hooked]
            times.append(timed(save))
            work.append(processor_seconds(server) - worked)
    # The first ones find nothing in memory.
    return [(times[1:], work[1:]) for times, work in found]


if __name__ == "__main__":
    main()
