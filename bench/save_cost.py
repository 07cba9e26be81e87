"""Times the save of a photo with the plugin's hooks against the same save without them.

    python bench/save_cost.py

With a broker whose port refuses, and with one that takes connections and never says a word. The peer is the same save
without the plugin. Saves are in autocommit, where the outbox row is a second commit.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import time

from temporary_shop import temporary_shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--saves", type=int, default=300)
    options = parser.parse_args()
    with temporary_shop():
        run(options.saves)


def run(saves: int) -> None:
    from django.conf import settings

    from catalog.models import Category, Product, ProductPhoto
    from shop_similarity.embedding import bell
    from shop_similarity.hooks import connect_hooks, disconnect_hooks
    from shop_similarity.models import ModelVersion, OutboxEntry

    category = Category.objects.create(name="Things", slug="things")
    product = Product.objects.create(name="Thing", slug="thing", sku="thing", category=category)
    ModelVersion.objects.create(name="bench", architecture="mildnet", weights_sha256="0", state="active")

    def save_many() -> list[float]:
        times = []
        for number in range(saves):
            photo = ProductPhoto(product=product, file=f"{number}.jpg")
            started = time.perf_counter()
            photo.save()
            times.append(time.perf_counter() - started)
        return times

    disconnect_hooks()
    save_many()
    assert not OutboxEntry.objects.exists()
    rows = {"peer: no hooks": save_many()}
    connect_hooks()
    silent = socket.create_server(("127.0.0.1", 0))
    for name, port in (("broker refuses", 1), ("broker is silent", silent.getsockname()[1])):
        settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{port}/0"
        bell._app.cache_clear()
        OutboxEntry.objects.all().delete()
        rows[name] = save_many()
        assert OutboxEntry.objects.count() == saves
    base = statistics.median(rows["peer: no hooks"])
    print(f"{'':18} {'median ms':>10} {'p99 ms':>8} {'of peer':>8}")
    for name, times in rows.items():
        middle = statistics.median(times)
        late = sorted(times)[int(0.99 * len(times))]
        print(f"{name:18} {middle * 1e3:10.2f} {late * 1e3:8.2f} {middle / base:8.2f}")


if __name__ == "__main__":
    main()
