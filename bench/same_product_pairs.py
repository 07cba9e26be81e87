"""Counts how many pairs of photos of one product serve training as negatives, in a drawn shop.

    python -m bench.same_product_pairs [--products N] [--photos N] [--triplets N]

No pixel is drawn: a photo is a vector near its product's. Printed are, for the two kinds of batches, the pairs of one
product that stand in a batch together, and then all pairs of one product whose photos some triplet names, wherever they
stand; of each the share that the masks call negatives, and the share that they call positives.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from shop_similarity.training.learning.data import TrainingData, join
from shop_similarity.training.learning.options import SamplingOptions
from shop_similarity.training.triplets.building import ProductPhoto, build_triplets

CATEGORIES, NUMBERS, EPOCHS = 10, 32, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=3_000)
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--triplets", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = drawn(Path(folder), arguments.products, arguments.photos, arguments.triplets)
    product = np.array([int(path.name.split("-")[0]) for path in data.paths])
    print(f"{len(data.train):,} triplets, {len(data.paths):,} photos, {len(np.unique(product)):,} products")
    for per_instance in (0, 3):
        options = SamplingOptions(per_instance=per_instance)
        sampler = data.sampler(options, 0)
        batches = (batch.photos for epoch in range(1, EPOCHS + 1) for batch in sampler.epoch(epoch))
        tell(
            f"in batches of {f'{per_instance} photos a product' if per_instance else 'triplets'}",
            data,
            product,
            batches,
        )
    order = np.argsort(product, kind="stable")
    tell("wherever they stand", data, product, np.split(order, np.flatnonzero(np.diff(product[order])) + 1))


def drawn(root: Path, products: int, views: int, count: int) -> TrainingData:
    """A shop of so many products with so many photos each."""
    generator = np.random.default_rng(0)
    photos = []
    for product in range(products):
        look = generator.standard_normal(NUMBERS)
        for view in range(views):
            vector = look + 0.5 * generator.standard_normal(NUMBERS)
            name = f"{product}-{view}"
            (root / name).write_text(name)
            photos.append(ProductPhoto(name, str(product), str(product % CATEGORIES), vector / np.linalg.norm(vector)))
    triplets = build_triplets(photos, root, count).triplets
    return join(triplets, triplets.select(np.arange(3)))


def tell(what: str, data: TrainingData, product: np.ndarray, batches: object) -> None:
    relations = data.relations(SamplingOptions())
    counts = np.zeros(3, dtype=np.int64)
    for photos in batches:
        same = product[photos][:, None] == product[photos]
        np.fill_diagonal(same, False)
        counts += [int((same & mask).sum()) for mask in (same, *relations.masks(photos))]
    pairs, positive, negative = counts
    print(f"{pairs // 2:,} pairs {what}: {negative / pairs:.1%} negatives, {positive / pairs:.1%} positives")


if __name__ == "__main__":
    main()
