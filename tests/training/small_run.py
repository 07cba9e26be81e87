"""A run of the trainer that is small enough to be killed and begun again; also a program of its own.

    python -m tests.training.small_run FOLDER JSON

trains in FOLDER with the options of JSON, resuming what is there, and says ``step N`` after each step.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from shop_similarity.training.learning.distribution import Distribution
from shop_similarity.training.learning.feature_sources import CachedSource, PhotoSource
from shop_similarity.training.learning.folder import HISTORY
from shop_similarity.training.learning.loop import Trainer, Watcher
from shop_similarity.training.learning.options import TrainingOptions
from shop_similarity.training.learning.relations import Relations
from shop_similarity.training.learning.sampling import TripletSampler
from shop_similarity.training.learning.validation import Validation
from shop_similarity.training.networks.architectures import build
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.questions import HUES, Questions
from shop_similarity.training.networks.splitting import split
from shop_similarity.training.photos.feature_cache import FeatureCache, fingerprint

SIZE = 32
COLOURS = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 200], [220, 200, 40], [150, 40, 170], [30, 30, 30]])
PER_COLOUR = 6
FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy", "recall_at_1", "mean_average_precision", "learning_rate")


def photos() -> np.ndarray:
    """``(36, 32, 32, 3)`` ``uint8``: a rectangle of one of six colours somewhere before a grey ground."""
    generator = np.random.default_rng(0)
    made = np.empty((len(COLOURS) * PER_COLOUR, SIZE, SIZE, 3), dtype=np.uint8)
    for place in range(len(made)):
        made[place] = generator.integers(90, 220)
        top, left = generator.integers(0, 12, 2)
        height, width = generator.integers(10, 20, 2)
        made[place, top : top + height, left : left + width] = COLOURS[place // PER_COLOUR]
    noise = generator.normal(0, 12, made.shape)
    return (made + noise).clip(0, 255).astype(np.uint8)


def rows(count: int, colours: range, seed: int) -> np.ndarray:
    """Triplets of two photos of one colour and one of another."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        one, other = generator.choice(colours, 2, replace=False)
        query, positive = generator.choice(PER_COLOUR, 2, replace=False)
        made.append(
            [one * PER_COLOUR + query, one * PER_COLOUR + positive, other * PER_COLOUR + generator.integers(PER_COLOUR)]
        )
    return np.unique(np.array(made), axis=0)


def make_trainer(
    folder: Path,
    distribution: Distribution | None = None,
    watcher=None,
    cached: bool = True,
    config: dict | None = None,
    retrieval: bool = False,
    **options,
) -> Trainer:
    """A trainer over the drawn photos; the last two colours are kept for validation."""
    distribution = distribution or Distribution()
    keras.utils.set_random_seed(7)
    with distribution.scope():
        model = build(
            "mildnet",
            {"width": 0.125, "embedding_dim": 32, "frozen_through": "block5_pool", **(config or {})},
            Preprocessing(size=SIZE),
        )
    parts = split(model)
    pixels = photos()
    if cached:
        digests = [f"{place:064x}" for place in range(len(pixels))]
        cache = FeatureCache(folder / "cache", parts, fingerprint(parts, {}))
        cache.fill(digests, [0] * len(pixels), lambda wanted: (pixels[place] for place, _ in wanted))
        source = CachedSource(cache.select(digests, [0] * len(pixels)))
    else:
        source = PhotoSource(lambda batches, epoch, first, augment: (pixels[batch] for batch in batches[first:]))
    training, unseen = rows(64, range(4), 1), rows(30, range(4, 6), 2)
    relations = Relations(len(pixels), training[:, :2])
    validation = Validation(unseen, Relations(len(pixels), unseen[:, :2]), 8)
    if retrieval:
        gallery = np.arange(4 * PER_COLOUR, 6 * PER_COLOUR)
        same = gallery[:, None] // PER_COLOUR == gallery // PER_COLOUR
        validation = Validation(
            unseen, validation.relations, 8, gallery, gallery, same.astype(np.int8), np.eye(len(gallery), dtype=bool)
        )
    defaults = {"epochs": 3, "learning_rate": 3e-3, "checkpoint_seconds": 1e-6, "patience": 0, "seed": 7}
    return Trainer(
        model,
        parts,
        source,
        TripletSampler(training, 8, seed=options.get("seed", 7)),
        relations,
        TrainingOptions(**{**defaults, **options}),
        folder,
        validation,
        distribution,
        watcher,
        [layer.name for layer in model.layers if "conv" in layer.name],
        HUES if config and config.get("colour") else 0,
        Questions.of(config or {}),
    )


def figures(history: list[dict]) -> list[dict]:
    """A history without what a clock has measured."""
    return [{key: record[key] for key in FIGURES if key in record} for record in history]


def history_of(folder: Path) -> list[dict]:
    """The history of a run, as far as it has come."""
    path = folder / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Announcer(Watcher):
    """Says each step, and stops or kills the process at one of them, or kills it before it writes a checkpoint."""

    def __init__(self, kill_at: int = 0, stop_at: int = 0, kill_saving: int = 0, say: bool = False) -> None:
        self.kill_at, self.stop_at, self.kill_saving, self.say = kill_at, stop_at, kill_saving, say
        self.steps: list[int] = []
        self.saved = 0

    def saving(self) -> None:
        self.saved += 1
        if self.saved == self.kill_saving:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    def step(self, epoch: int, number: int, result, learning_rate: float) -> None:
        self.steps.append(number)
        if self.say:
            print(f"step {number}", flush=True)
        if number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        if number == self.stop_at:
            signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tf.config.experimental.enable_op_determinism()
    given = json.loads(sys.argv[2])
    announcer = Announcer(*(given.pop(name, 0) for name in ("kill_at", "stop_at", "kill_saving")), say=True)
    made = make_trainer(Path(sys.argv[1]), watcher=announcer, **given).fit(resume=True)
    print("best", made.best_epoch, flush=True)
