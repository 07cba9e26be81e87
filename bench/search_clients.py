"""Searches by several clients at a time, each a process with a connection of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from typing import Any

from bench.timing import tails


def by_clients(clients: int, keys: Sequence[int], seconds: float, limit: int, *, whole: bool) -> dict[str, Any]:
    """Times of searches that so many clients send one after the other for so many seconds.

    Args:
        clients: their number.
        keys: products that are asked with, in turns.
        seconds: how long they search, after one search each.
        limit: products that are found.
        whole: `similar_products`, else the statement alone.
    """
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(clients + 1), context.Queue()
    processes = [
        context.Process(target=_client, args=(keys[number:] + keys[:number], seconds, limit, whole, ready, results))
        for number in range(clients)
    ]
    for process in processes:
        process.start()
    ready.wait(timeout=300)
    times = [time for _ in processes for time in results.get(timeout=seconds + 120)]
    for process in processes:
        process.join()
    return tails(times) | {"per_second": round(len(times) / seconds, 1)}


def _client(keys: Sequence[int], seconds: float, limit: int, whole: bool, ready: Any, results: Any) -> None:
    import django

    django.setup()
    from catalog.models import Product
    from shop_similarity.models import ModelVersion
    from shop_similarity.search import Query, SearchOptions, find_matches, similar_products

    version = ModelVersion.objects.get(state="active")
    options = SearchOptions(limit=limit)

    def search(product: Product) -> None:
        if whole:
            similar_products(product, version=version, options=options)
        else:
            query = Query.of_product(version, product, photos=1)
            find_matches(version, query, limit=limit, among=None, exclude=[product.pk])

    products = list(Product.objects.filter(pk__in=keys))
    search(products[0])
    ready.wait()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        search(products[len(times) % len(products)])
        times.append(time.perf_counter() - began)
    results.put(times)
