"""Measures each architecture that can be calibrated, by each runtime: photos a second, size, and what the limit is.

    python -m bench.embedding_speed --photos FOLDER [--count 120] [--rounds 3] [--architectures NAMES]
        [--runtimes tensorflow,openvino,openvino-int8] [--batch-size N] [--float32]

A version of each is calibrated on the folder's photos in a shop of its own. What is timed, as a worker does it, on a
machine that does nothing else:

    vector  from files to embeddings: read, decoded and prepared in threads ahead of the network
    row     the same through the outbox into Postgres; queueing is not part of it
    busy    share of the time of ``row``, up to the end of the network's last step, in which it computed: while work
            waits, the first batch included, which is read before there is anything to compute
    one     milliseconds of the network for one photo that a shopper waits for

The peer is ``predict``: from files to embeddings, decoded one after the other, and ``model.predict`` in ``float32`` for
batches of ``BATCH_SIZE``, without a database. ``limit`` is how many photos a second the network's multiplications allow
in that precision, by the speed of a product of large matrices in TensorFlow here; there is none of int8, and transforms
may save multiplications.

All take turns in every round, so that what else the machine does falls on all. Each figure is the median of the
rounds. ``GMAC`` are milliards of multiplications for a photo at the recipe's size, ``weights`` the stored file. The
int8 network is computed unproven here; whether it finds as much is what ``manage.py quantize_model`` finds out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.machine import machine
from bench.shrunk_version import make_shrunk_version
from bench.temporary_shop import temporary_shop
from bench.timing import timed

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
    parser.add_argument("--architectures", help="names, separated by commas (all that bring their weights)")
    parser.add_argument("--runtimes", default="tensorflow", help="names, separated by commas (tensorflow)")
    parser.add_argument("--batch-size", type=int, help="the setting BATCH_SIZE (the shop's)")
    parser.add_argument("--float32", action="store_true", help="compute as a CPU without bfloat16 does")
    parser.add_argument("--shrunk", action="store_true", help="one shrunk network of drawn weights")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--weights-cache", type=Path, default=Path(".data/weights/pretrained"))
    given = parser.parse_args()
    files = sorted(path for path in given.photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    # Spread over the folder, in which neighbours are alike.
    files = files[:: max(1, len(files) // given.count)][: given.count]
    if not files:
        parser.error(f"There is no photo in {given.photos}. Name a folder of photos by --photos.")
    described = machine()
    with temporary_shop():
        figures = {"machine": described, "photos": len(files), "versions": measure(files, given)}
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


class Subject:
    """A version, computed by a runtime."""

    def __init__(self, version: ModelVersion, runtime: str) -> None:
        from django.conf import settings

        from shop_similarity.conf import get_settings
        from shop_similarity.workers.embedder import Embedder

        self.version, self.runtime = version, runtime
        settings.SHOP_SIMILARITY = settings.SHOP_SIMILARITY | {"RUNTIME": runtime.partition("-")[0]}
        get_settings.cache_clear()
        if runtime.endswith("-int8"):
            quantize(version)
        self.embedder = Embedder(version)
        self.computed = self.ended = 0.0
        self._step, self.embedder._step = self.embedder._step, self._timed

    def _timed(self, photos: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        try:
            return self._step(photos)
        finally:
            self.ended = time.perf_counter()
            self.computed += self.ended - began

    def one_round(self, rows: Sequence[ImageRow]) -> dict[str, float]:
        """Seconds of ``vector``, ``one`` and ``row``, and the share that is ``busy``."""
        from shop_similarity.workers import embedder
        from shop_similarity.workers.drain import drain

        embedder._loaded.clear()
        embedder._loaded[self.version.pk] = self.embedder
        photo = np.full((self.embedder.preprocessing.size,) * 2 + (3,), 128, np.uint8)
        figures = {
            "vector": timed(lambda: embed_files(self.version, rows)),
            "one": statistics.median(timed(lambda: self.embedder.embed_one(photo)) for _ in range(9)),
        }
        queue(self.version)
        self.computed, began = 0.0, time.perf_counter()
        figures["row"] = timed(lambda: drain([self.version.pk]))
        return figures | {"busy": self.computed / (self.ended - began)}


def measure(files: Sequence[Path], given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Figures by architecture and runtime."""
    from django.conf import settings

    from shop_similarity.conf import get_settings
    from shop_similarity.training.heads.recipe import RECIPES
    from shop_similarity.training.networks import precision
    from shop_similarity.training.versions.first_version import sample_rows
    from shop_similarity.training.versions.loading import load_version

    if given.batch_size:
        settings.SHOP_SIMILARITY = settings.SHOP_SIMILARITY | {"BATCH_SIZE": given.batch_size}
        get_settings.cache_clear()
    if given.float32:
        precision.cpu_multiplies_bfloat16 = lambda: False
    fill_shop(files)
    rows = sample_rows(len(files))
    names = given.architectures.split(",") if given.architectures else sorted(RECIPES.keys() - {"mildnet-encoder"})
    if given.shrunk:
        versions = {"shrunk": make_shrunk_version()}
    else:
        versions = {name: make_version(name, given.weights_cache) for name in names}
    models = {name: load_version(version) for name, version in versions.items()}
    subjects = {
        (name, runtime): Subject(version, runtime)
        for name, version in versions.items()
        for runtime in given.runtimes.split(",")
    }
    rounds: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(given.rounds + 1):
        # The first step compiles.
        part = rows if number else rows[:4]
        for name, version in versions.items():
            began = time.perf_counter()
            predict_in_a_loop(models[name], version, part)
            found = {"vector": time.perf_counter() - began}
            if number:
                rounds.setdefault((name, "predict"), []).append(found)
        for key, subject in subjects.items():
            found = subject.one_round(part)
            if number:
                rounds.setdefault(key, []).append(found)
    speeds = {name: multiplications_a_second(name) for name in ("float32", "bfloat16")}
    print(f"{len(rows)} photos, {given.rounds} rounds")
    print(
        f"{'architecture':16}{'runtime':>15}{'computes in':>13}{'GMAC':>7}{'weights':>10}{'limit/s':>9}{'vector/s':>10}"
        f"{'row/s':>8}{'to predict':>12}{'busy':>7}{'one ms':>8}"
    )
    measured: dict[str, dict[str, Any]] = {}
    for (name, runtime), found in rounds.items():
        figures = {key: statistics.median(each[key] for each in found) for key in found[0]}
        subject = subjects.get((name, runtime))
        computes_in = subject.embedder.precision if subject else "float32"
        work = multiplications(models[name])
        most = speeds[computes_in] / work if computes_in in speeds else None
        limit = f"{'':9}" if most is None else f"{most:9.1f}"
        line = (
            f"{name:16}{runtime:>15}{computes_in:>13}{work / 1e9:7.2f}{versions[name].weights.size / 1e6:7.1f} MB"
            f"{limit}{len(rows) / figures['vector']:10.1f}"
        )
        if subject:
            peer = statistics.median(each["vector"] for each in rounds[name, "predict"])
            line += (
                f"{len(rows) / figures['row']:8.1f}{peer / figures['row']:12.1f}{figures['busy']:7.0%}"
                f"{figures['one'] * 1e3:8.1f}"
            )
            measured[f"{name}, {runtime}"] = {
                "computes_in": computes_in,
                "images_per_second": round(len(rows) / figures["row"], 2),
                "predict_loop_images_per_second": round(len(rows) / peer, 2),
                "ratio_to_predict_loop": round(peer / figures["row"], 2),
                "limit_images_per_second": most and round(most, 2),
                "share_of_limit": most and round(len(rows) / figures["row"] / most, 3),
                "busy": round(figures["busy"], 3),
                "one_ms": round(figures["one"] * 1e3, 1),
            }
        print(line)
    return measured


def quantize(version: ModelVersion) -> None:
    from shop_similarity.training.networks.preprocessing import Preprocessing
    from shop_similarity.training.versions.first_version import prepared_photos, sample_rows
    from shop_similarity.workers.runtimes import quantization
    from shop_similarity.workers.runtimes.converted import converted

    photos = list(prepared_photos(sample_rows(300), Preprocessing.from_dict(version.preprocessing), []))
    quantized = quantization.quantize(converted(version), photos)
    quantization.store(version, quantized, {"is_proven": True, "reasons": []})


def predict_in_a_loop(model: keras.Model, version: ModelVersion, rows: Sequence[ImageRow]) -> None:
    from shop_similarity.catalogue import get_catalogue
    from shop_similarity.conf import get_settings
    from shop_similarity.photos.decoder import decode
    from shop_similarity.photos.decoding import DEFAULT_LIMITS
    from shop_similarity.training.networks.preprocessing import Preprocessing
    from shop_similarity.training.networks.runner import stacked

    preprocessing, storage = Preprocessing.from_dict(version.preprocessing), get_catalogue().storage

    def read(row: ImageRow) -> np.ndarray:
        with storage.open(row.file_name, "rb") as file:
            return preprocessing.prepare(decode(file.read(), DEFAULT_LIMITS, None))

    for batch in stacked(map(read, rows), get_settings().batch_size):
        model.predict(batch.astype(np.float32), verbose=0)


def multiplications_a_second(dtype: str, side: int = 2048) -> float:
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((side, side)), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    product()
    return side**3 / statistics.median(timed(lambda: product().numpy()) for _ in range(7))


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


def queue(version: ModelVersion) -> None:
    """Have all photos wait for the version, as if it had none of them."""
    from shop_similarity.embedding.sweep import sweep
    from shop_similarity.models import Embedding, ModelVersion, OutboxEntry

    Embedding.objects.filter(version=version).delete()
    sweep(files=False, versions=ModelVersion.objects.filter(pk=version.pk), priority=OutboxEntry.Priority.BACKFILL)


def multiplications(model: keras.Model) -> int:
    """Of one photo: those of its convolutions and of its linear maps."""
    return sum(_of_layer(layer) for layer in model.layers)


def _of_layer(layer: keras.layers.Layer) -> int:
    import keras

    if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        return math.prod(layer.output.shape[1:3]) * math.prod(layer.weights[0].shape)
    return math.prod(layer.kernel.shape) if isinstance(layer, keras.layers.Dense) else 0


if __name__ == "__main__":
    main()
