"""Measures each architecture that can be calibrated: photos a second, multiplications, size and memory.

    python -m bench.embedding_speed --photos FOLDER [--count 120] [--rounds 3] [--architectures NAMES] [--float32]

A version of each is calibrated on the folder's photos in a shop of its own. What is timed, as a worker does it, on a
machine that does nothing else:

    vector  from files to embeddings: read, decoded and prepared in threads ahead of the network
    row     the same through the outbox into Postgres
    one     milliseconds of the network for one photo that a shopper waits for

The architectures take turns in every round, so that what else the machine does falls on all. Each figure is the median
of the rounds. ``GMAC`` are milliards of multiplications for a photo at the recipe's size, ``weights`` the stored file.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.temporary_shop import temporary_shop

if TYPE_CHECKING:
    import keras

    from shop_similarity.catalogue import ImageRow
    from shop_similarity.models import ModelVersion

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of photos, looked through to its bottom")
    parser.add_argument("--count", type=int, default=120, help="photos that are embedded in each round (120)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--architectures", help="names, separated by commas (all)")
    parser.add_argument("--float32", action="store_true", help="compute as a CPU without bfloat16 does")
    parser.add_argument("--weights-cache", type=Path, default=Path(".data/weights/pretrained"))
    given = parser.parse_args()
    files = sorted(path for path in given.photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    # Spread over the folder, in which neighbours are alike.
    files = files[:: max(1, len(files) // given.count)][: given.count]
    if not files:
        parser.error(f"There is no photo in {given.photos}.")
    with temporary_shop():
        measure(files, given)


def measure(files: Sequence[Path], given: argparse.Namespace) -> None:
    from shop_similarity.training.heads.recipe import RECIPES
    from shop_similarity.training.networks import precision
    from shop_similarity.training.versions.first_version import sample_rows
    from shop_similarity.workers.embedder import get_embedder

    if given.float32:
        precision.cpu_multiplies_bfloat16 = lambda: False
    fill_shop(files)
    rows = sample_rows(len(files))
    names = given.architectures.split(",") if given.architectures else list(RECIPES)
    versions = {name: make_version(name, given.weights_cache) for name in names}
    for version in versions.values():
        # The first step compiles.
        one_round(version, rows[:4])
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(given.rounds):
        for name, version in versions.items():
            rounds[name].append(one_round(version, rows))
    print(f"{len(rows)} photos, {given.rounds} rounds")
    print(f"{'architecture':16}{'computes in':>16}{'GMAC':>8}{'weights':>10}{'vector/s':>10}{'row/s':>8}{'one ms':>8}")
    for name, version in versions.items():
        vector, row, one = (statistics.median(each[key] for each in rounds[name]) for key in ("vector", "row", "one"))
        print(
            f"{name:16}{get_embedder(version).dtype_policy:>16}{multiplications(version) / 1e9:8.2f}"
            f"{version.weights.size / 1e6:7.1f} MB{len(rows) / vector:10.1f}{len(rows) / row:8.1f}{one * 1e3:8.1f}"
        )


def one_round(version: ModelVersion, rows: Sequence[ImageRow]) -> dict[str, float]:
    """Seconds of each of the three."""
    from shop_similarity.workers.embedder import get_embedder

    embedder = get_embedder(version)
    photo = np.full((embedder.preprocessing.size,) * 2 + (3,), 128, np.uint8)
    return {
        "vector": timed(lambda: embed_files(version, rows)),
        "one": statistics.median(timed(lambda: embedder.embed_one(photo)) for _ in range(9)),
        "row": timed(lambda: embed_through_outbox(version)),
    }


def fill_shop(files: Sequence[Path]) -> None:
    from django.core.files import File

    from catalog.models import Category, Product, ProductPhoto

    category = Category.objects.create(name="Things", slug="things")
    for number, path in enumerate(files):
        product = Product.objects.create(name=f"{number}", slug=f"{number}", sku=f"{number}", category=category)
        with path.open("rb") as file:
            ProductPhoto.objects.create(product=product, file=File(file, name=f"{number}{path.suffix}"))


def make_version(architecture: str, weights_cache: Path) -> ModelVersion:
    from shop_similarity.training.heads.recipe import RECIPES
    from shop_similarity.training.networks.architectures import backbone_of
    from shop_similarity.training.networks.backbones import find_trunk_weights
    from shop_similarity.training.versions.first_version import make_first_version

    weights = find_trunk_weights(backbone_of(architecture, RECIPES[architecture].config), weights_cache)
    return make_first_version(weights, sample=16, architecture=architecture)[0]


def embed_files(version: ModelVersion, rows: Sequence[ImageRow]) -> None:
    from shop_similarity.conf import get_settings
    from shop_similarity.training.networks.runner import stacked
    from shop_similarity.training.versions.first_version import prepared_photos
    from shop_similarity.workers.embedder import get_embedder

    embedder = get_embedder(version)
    skipped: list = []
    for batch in stacked(prepared_photos(list(rows), embedder.preprocessing, skipped), get_settings().batch_size):
        embedder.embed(list(batch))
    if skipped:
        raise SystemExit(f"{skipped[0].file_name}: {skipped[0].reason}")


def embed_through_outbox(version: ModelVersion) -> None:
    from shop_similarity.embedding.sweep import sweep
    from shop_similarity.models import Embedding, ModelVersion, OutboxEntry
    from shop_similarity.workers.drain import drain

    Embedding.objects.filter(version=version).delete()
    sweep(files=False, versions=ModelVersion.objects.filter(pk=version.pk), priority=OutboxEntry.Priority.BACKFILL)
    drain([version.pk])


def multiplications(version: ModelVersion) -> int:
    """Of one photo: those of its convolutions and of its linear maps."""
    from shop_similarity.workers.embedder import get_embedder

    return sum(_of_layer(layer) for layer in get_embedder(version)._model.layers)


def _of_layer(layer: keras.layers.Layer) -> int:
    import keras

    if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        return math.prod(layer.output.shape[1:3]) * math.prod(layer.weights[0].shape)
    return math.prod(layer.kernel.shape) if isinstance(layer, keras.layers.Dense) else 0


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
