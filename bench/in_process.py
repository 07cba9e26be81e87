"""Times libraries that keep an index in their own process, on the vectors that `bench.search_paths` searches.

    python -m bench.in_process --photos 100000 --json FILE

The peer of all is numpy's product of the matrix, which is exact. hnswlib, usearch and faiss build graphs of 16
neighbours with an `ef_construction` of 128, as the plugin's own index has, and search with an `ef` of 64 and of 200.
What is told: seconds to build, MiB that the process grew by, times of a search for ten, recall of the exact ten. They
know of no filter, no rule, no transaction and no other process: that is what a search costs when nothing else counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.machine import machine
from bench.made_vectors import DIMENSIONS, made_vectors
from bench.timing import tails, timed

K = 10
EF = (64, 200)
NEIGHBOURS, CONSTRUCTION = 16, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2, help="that build")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    options = parser.parse_args()
    figures = run(options.photos, options.queries, options.threads)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def run(photos: int, queries: int, threads: int) -> dict[str, Any]:
    # Half precision is what the shop keeps; all are given the same numbers.
    vectors = np.empty((photos, DIMENSIONS), np.float32)
    first = 0
    for block in made_vectors(photos):
        vectors[first : first + len(block)] = block.astype(np.float16)
        first += len(block)
    random = np.random.default_rng(1)
    asked = random.choice(photos, size=min(queries, photos), replace=False)
    figures: dict[str, Any] = {"photos": photos, "machine": machine(), "ways": {}}
    truth: dict[int, set[int]] = {}
    for library in (_numpy, _usearch, _hnswlib, _faiss):
        before = psutil.Process().memory_info().rss
        ways: list[tuple[str, Callable[[np.ndarray], Any]]] = []
        built = timed(lambda library=library, ways=ways: ways.extend(library(vectors, threads)))
        grown = psutil.Process().memory_info().rss - before
        for name, search in ways:
            search(vectors[asked[0]])
            times, recalls = [], []
            for place in asked:
                began = time.perf_counter()
                found = search(vectors[place])
                times.append(time.perf_counter() - began)
                nearest = [int(key) for key in found if key != place][:K]
                truth.setdefault(int(place), set(nearest))
                recalls.append(len(truth[int(place)] & set(nearest)) / K)
            figures["ways"][name] = tails(times) | {
                "recall_at_10": round(float(np.mean(recalls)), 4),
                "build_s": round(built, 1),
                "mib": round(grown / 2**20),
            }
            print(f"{name:20} {figures['ways'][name]}", flush=True)
        ways.clear()
    return figures


def _numpy(vectors: np.ndarray, threads: int) -> list[tuple[str, Callable[[np.ndarray], Any]]]:
    def search(vector: np.ndarray) -> np.ndarray:
        cosines = vectors @ vector
        nearest = np.argpartition(-cosines, K + 1)[: K + 1]
        return nearest[np.argsort(-cosines[nearest])]

    return [("numpy, exact", search)]


def _hnswlib(vectors: np.ndarray, threads: int) -> list[tuple[str, Callable[[np.ndarray], Any]]]:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=CONSTRUCTION, M=NEIGHBOURS)
    index.add_items(vectors, num_threads=threads)

    def search(vector: np.ndarray, ef: int) -> np.ndarray:
        index.set_ef(ef)
        return index.knn_query(vector, k=K + 1, num_threads=1)[0][0]

    return [(f"hnswlib, ef {ef}", lambda vector, ef=ef: search(vector, ef)) for ef in EF]


def _usearch(vectors: np.ndarray, threads: int) -> list[tuple[str, Callable[[np.ndarray], Any]]]:
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=NEIGHBOURS, expansion_add=CONSTRUCTION)
    index.add(np.arange(len(vectors)), vectors, threads=threads)

    def search(vector: np.ndarray, ef: int) -> np.ndarray:
        index.expansion_search = ef
        return index.search(vector, K + 1, threads=1).keys

    return [(f"usearch f16, ef {ef}", lambda vector, ef=ef: search(vector, ef)) for ef in EF]


def _faiss(vectors: np.ndarray, threads: int) -> list[tuple[str, Callable[[np.ndarray], Any]]]:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = CONSTRUCTION
    index.add(vectors)
    faiss.omp_set_num_threads(1)

    def search(vector: np.ndarray, ef: int) -> np.ndarray:
        index.hnsw.efSearch = ef
        return index.search(vector[None], K + 1)[1][0]

    return [(f"faiss HNSW, ef {ef}", lambda vector, ef=ef: search(vector, ef)) for ef in EF]


if __name__ == "__main__":
    main()
