"""Measures what training costs: an epoch with and without the cache, and one forward pass against three.

    python -m bench.training_speed --triplets CSV --images FOLDER [--train head|block5] [--photos N] [--steps N]

One run prints both comparisons. What is timed:

    cached  the features of all photos are computed once (timed by itself), then whole epochs over all triplets
    plain   the same steps from photos that are decoded and go through the whole network each time; --steps of them are
            timed, and the epoch is extrapolated from their mean, which is said
    passes  a training step of the trained layers and all below them from photos in memory, the three photos of each
            triplet as one pass over 3B, and the same step written with three passes over B

Figures are of a machine that does nothing else; --photos takes only the triplets whose photos are among the first N.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import django

django.setup()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from shop_similarity.training.heads.recipe import RECIPES  # noqa: E402
from shop_similarity.training.learning.feature_sources import CachedSource, PhotoSource, ahead  # noqa: E402
from shop_similarity.training.learning.losses import make_loss  # noqa: E402
from shop_similarity.training.learning.options import TrainingOptions  # noqa: E402
from shop_similarity.training.learning.relations import Relations  # noqa: E402
from shop_similarity.training.learning.sampling import TripletSampler  # noqa: E402
from shop_similarity.training.learning.step import Inputs, TrainingStep  # noqa: E402
from shop_similarity.training.networks.architectures import backbone_of, build  # noqa: E402
from shop_similarity.training.networks.architectures.parts import freeze  # noqa: E402
from shop_similarity.training.networks.backbones import Trunk, find_trunk_weights, get_trunk  # noqa: E402
from shop_similarity.training.networks.precision import dtype_policy, fast_policy  # noqa: E402
from shop_similarity.training.networks.preprocessing import Preprocessing  # noqa: E402
from shop_similarity.training.networks.splitting import Split, split  # noqa: E402
from shop_similarity.training.photos.dataset import load_photo, photo_batches, photo_errors  # noqa: E402
from shop_similarity.training.photos.feature_cache import FeatureCache, content_digests, fingerprint, readable_size  # noqa: E402
from shop_similarity.training.triplets.table import Triplets, read_triplets  # noqa: E402


def main() -> None:
    arguments = parse()
    triplets = read_triplets(arguments.triplets, arguments.images)
    if arguments.photos:
        triplets = triplets.select((triplets.rows < arguments.photos).all(axis=1))
    recipe = RECIPES[arguments.architecture]
    backbone = backbone_of(arguments.architecture, recipe.config)
    trunk = get_trunk(backbone)
    frozen = trunk.taps[-1] if arguments.train == "head" else below(trunk, arguments.train)
    weights = find_trunk_weights(backbone, arguments.weights_cache)
    preprocessing = replace(recipe.preprocessing, mean=weights.mean, std=weights.std)
    policy = fast_policy(backbone)
    with dtype_policy(policy):
        model = build(arguments.architecture, {**recipe.config, "frozen_through": frozen}, preprocessing)
    weights.apply(model)
    parts = split(model)
    print(
        f"{arguments.architecture}, {policy}, trained from {arguments.train} on; {len(triplets):,} triplets of "
        f"{len(triplets.images):,} photos, {arguments.batch_size} triplets a batch; {weights.source}"
    )
    epochs(arguments, triplets, parts, preprocessing)
    passes(arguments, triplets, model, trunk, preprocessing)


def below(trunk: Trunk, block: str) -> str | None:
    """What is frozen when a block is trained and all above it."""
    return trunk.below({tap.removesuffix("_pool"): tap for tap in trunk.taps}[block])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triplets", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--architecture", choices=sorted(RECIPES), default="mildnet")
    parser.add_argument("--train", default="head", help="head or a block (head)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--photos", type=int, default=0, help="only triplets of the first N photos (all)")
    parser.add_argument("--steps", type=int, default=3, help="plain steps that are timed (3)")
    parser.add_argument("--epochs", type=int, default=3, help="cached epochs that are timed (3)")
    parser.add_argument("--pass-triplets", type=int, default=8, help="triplets of a step of one pass or three (8)")
    parser.add_argument("--pass-from", default="block5", help="what such a step trains (block5)")
    parser.add_argument("--weights-cache", type=Path, default=Path(".data/weights/pretrained"))
    parser.add_argument("--cache", type=Path, help="keep the features there; by default they are made anew")
    return parser.parse_args()


def epochs(arguments: argparse.Namespace, triplets: Triplets, parts: Split, preprocessing: Preprocessing) -> None:
    """Seconds of an epoch, cached and plain."""
    paths = triplets.paths()
    relations = Relations(len(paths), triplets.positive_pairs())
    sampler = TripletSampler(triplets.rows, arguments.batch_size)
    batches = sampler.epoch(1)

    def read(chosen, epoch, first, augment):
        with photo_errors():
            yield from photo_batches(paths, chosen, preprocessing, first=first).as_numpy_iterator()

    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(arguments.cache or Path(folder), parts, fingerprint(parts, preprocessing.to_dict()))
        digests = content_digests(paths)
        began = time.perf_counter()
        count = cache.fill(
            digests, [0] * len(paths), lambda wanted: (load_photo(paths[place], preprocessing) for place, _ in wanted)
        )
        took = time.perf_counter() - began
        print(f"cache: {count:,} photos in {took:.1f} s, {readable_size(len(paths) * cache.bytes_per_photo)}")
        cached = CachedSource(cache.select(digests, [0] * len(paths)))
        step = make_step(parts, len(batches), from_photos=False)
        timed_steps(step, cached, batches[:2], relations)
        seconds = [sum(timed_steps(step, cached, batches, relations)) for _ in range(arguments.epochs)]
    print(f"cached epoch: {statistics.mean(seconds):.2f} s ({', '.join(f'{each:.2f}' for each in seconds)})")
    plain = make_step(parts, len(batches), from_photos=True)
    source = PhotoSource(read)
    times = timed_steps(plain, source, batches[: arguments.steps + 1], relations)[1:]
    whole = statistics.mean(times) * len(batches)
    print(
        f"plain epoch: {whole:,.0f} s, extrapolated to {len(batches)} steps from the mean of {len(times)}: "
        f"{statistics.mean(times):.2f} s ({', '.join(f'{each:.2f}' for each in times)})"
    )
    print(f"plain / cached: {whole / statistics.mean(seconds):,.0f}")


def make_step(parts: Split, steps: int, from_photos: bool) -> TrainingStep:
    return TrainingStep(parts, TrainingOptions(loss="supcon", learning_rate=1e-6), steps, steps, from_photos)


def timed_steps(step: TrainingStep, source, batches, relations: Relations) -> list[float]:
    """Seconds of each step, waiting for its inputs included."""
    times = []
    features = source.training(batches, 1, 0)
    inputs = ahead(
        Inputs(
            values,
            batch.rows,
            *relations.masks(batch.photos),
            relations.instances(batch.photos),
            relations.categories_of(batch.photos),
        )
        for batch, values in zip(batches, features, strict=False)
    )
    for _ in batches:
        began = time.perf_counter()
        step([next(inputs)])
        times.append(time.perf_counter() - began)
    inputs.close()
    return times


def passes(
    arguments: argparse.Namespace,
    triplets: Triplets,
    model: keras.Model,
    trunk: Trunk,
    preprocessing: Preprocessing,
) -> None:
    """Images per second of a step with one forward pass over 3B and of the same step with three over B."""
    for layer in model.layers:
        layer.trainable = True
    freeze(model, trunk, below(trunk, arguments.pass_from), batch_norm=False)
    parts = split(model)
    size = arguments.pass_triplets
    paths = triplets.paths()
    rows = triplets.rows[:size]
    photos = [np.stack([load_photo(paths[place], preprocessing) for place in column]) for column in rows.T]
    variables = [variable.value for variable in parts.trainable.trainable_variables]
    optimizer = keras.optimizers.Adam(1e-6)
    optimizer.build(parts.trainable.trainable_variables)
    loss = make_loss("triplet")
    places = tf.reshape(tf.range(3 * size), (3, size))
    nothing = tf.zeros((3 * size, 3 * size), tf.bool)

    def embed(batch: tf.Tensor) -> tf.Tensor:
        features = parts.features(batch)
        features = [
            tf.stop_gradient(tf.cast(feature, tensor.dtype))
            for feature, tensor in zip(features, parts.trainable.inputs, strict=True)
        ]
        return parts.trainable(features, training=True)

    def update(embeddings: Callable[[], tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(embeddings(), tf.transpose(places), nothing, nothing)
        optimizer.apply(tape.gradient(value, variables), parts.trainable.trainable_variables)
        return value

    one = tf.function(lambda q, p, n: update(lambda: embed(tf.concat([q, p, n], 0))), autograph=False)
    three = tf.function(lambda q, p, n: update(lambda: tf.concat([embed(q), embed(p), embed(n)], 0)), autograph=False)
    tensors = [tf.constant(column) for column in photos]
    times: dict[str, list[float]] = {"one pass over 3B": [], "three passes over B": []}
    # In turn, so that what else the machine does falls on both.
    for turn in range(arguments.steps + 1):
        for name, function in zip(times, (one, three), strict=True):
            began = time.perf_counter()
            function(*tensors).numpy()
            if turn:
                times[name].append(time.perf_counter() - began)
    for name, seconds in times.items():
        mean = statistics.mean(seconds)
        print(
            f"{name}: {3 * size / mean:.1f} images/s, {size} triplets, trained from {arguments.pass_from} on "
            f"({', '.join(f'{each:.2f}' for each in seconds)} s a step)"
        )


if __name__ == "__main__":
    main()
