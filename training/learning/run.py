"""A training run from its folder to its trained model.

The folder of a run holds everything that it was started with (``run.json``, ``start.weights.h5``,
``validation.csv``), its curves (``history.jsonl``, ``tensorboard/``), the state it goes on from (``checkpoints/``) and
what it has come to (``best.weights.h5``, ``evaluation.json``, ``embeddings.npz``, ``report.html``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from shop_similarity.photos.decoding import DEFAULT_LIMITS, ImageLimits
from shop_similarity.training.files import write_atomically
from shop_similarity.training.heads.calibration import CalibrationError, calibrate_head, guard_head
from shop_similarity.training.heads.recipe import RECIPES, SAMPLE, SEED
from shop_similarity.training.learning.data import SamplingOptions, TrainingData
from shop_similarity.training.learning.distribution import Distribution
from shop_similarity.training.learning.feature_sources import CachedSource, FeatureSource, PhotoSource
from shop_similarity.training.learning.loop import BEST_WEIGHTS, Trainer, TrainingError, TrainingResult, Watcher
from shop_similarity.training.learning.options import TrainingOptions
from shop_similarity.training.learning.sampling import Sampler
from shop_similarity.training.learning.step import boundary
from shop_similarity.training.networks.architectures import FEATURES, backbone_of, build, full_config
from shop_similarity.training.networks.backbones import BackboneWeights, get_backbone
from shop_similarity.training.networks.precision import dtype_policy
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.splitting import Split, split
from shop_similarity.training.photos.augmentation import Augmentation, generator_of
from shop_similarity.training.photos.dataset import load_photo, photo_batches, photo_errors
from shop_similarity.training.photos.feature_cache import FeatureCache, fingerprint, readable_size

if TYPE_CHECKING:
    from shop_similarity.models import ModelVersion

RUN_FILE = "run.json"
START_WEIGHTS = "start.weights.h5"
EMBEDDINGS = "embeddings.npz"
EVALUATION = "evaluation.json"
VALIDATION = "validation.csv"
TENSORBOARD = "tensorboard"
REPORT = "report.html"
_AHEAD = 64

# Called as progress(what, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Setup:
    """What a run is, apart from its data.

    Attributes:
        architecture: a key of :data:`shop_similarity.training.networks.architectures.ARCHITECTURES`.
        config: its options; ``frozen_through`` says what is trained.
        preprocessing: of the photos.
        weights_source: where the starting weights come from, for people.
        training: of the loop.
        sampling: of the batches.
        augmentation: how training photos are changed, or None.
        precision: Keras's dtype policy.
        cached: whether the frozen half is computed once and kept.
        calibrated: whether the head starts from unlabelled photos instead of random numbers.
    """

    architecture: str
    config: Mapping[str, Any]
    preprocessing: Preprocessing
    weights_source: str = ""
    training: TrainingOptions = field(default_factory=TrainingOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    augmentation: Augmentation | None = None
    precision: str = "float32"
    cached: bool = True
    calibrated: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {
            "config": dict(self.config),
            "preprocessing": self.preprocessing.to_dict(),
            "training": self.training.to_dict(),
            "sampling": self.sampling.to_dict(),
            "augmentation": None if self.augmentation is None else self.augmentation.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Setup:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            ValueError: for a wrong value.
        """
        augmentation = values["augmentation"]
        return cls(
            **{
                **values,
                "preprocessing": Preprocessing.from_dict(values["preprocessing"]),
                "training": TrainingOptions.from_dict(values["training"]),
                "sampling": SamplingOptions.from_dict(values["sampling"]),
                "augmentation": None if augmentation is None else Augmentation.from_dict(augmentation),
            }
        )


class TrainingRun:
    """One run.

    Args:
        folder: of the run.
        setup: what it is.
        data: what it trains on.
        cache: folder of the cached features.
        distribution: devices.
        progress: called as ``progress(what, done, total)`` by what comes before the first epoch and after the last.
        limits: what a photo may be.
        announce: called with the number of photos, the size in words and the folder before a cache is filled.
    """

    def __init__(
        self,
        folder: Path,
        setup: Setup,
        data: TrainingData,
        cache: Path,
        distribution: Distribution | None = None,
        progress: Progress | None = None,
        limits: ImageLimits = DEFAULT_LIMITS,
        announce: Callable[[int, str, Path], None] | None = None,
    ) -> None:
        self.folder = folder
        self.setup = setup
        self.data = data
        self.distribution = distribution or Distribution()
        self._progress = progress
        self._limits = limits
        self._tell = announce
        self._cache_folder = cache
        keras.utils.set_random_seed(setup.training.seed)
        with self.distribution.scope(), dtype_policy(setup.precision):
            self.model = build(setup.architecture, setup.config, setup.preprocessing)
        self.calibration: dict[str, Any] | None = None
        self._split: Split | None = None
        self._source: FeatureSource | None = None
        self._trainer: Trainer | None = None

    def sampler(self) -> Sampler:
        """Batches to train on.

        Raises:
            TrainingError: if the data has too little for what is asked.
        """
        try:
            return self.data.sampler(self._sampling(), self.setup.training.seed)
        except ValueError as error:
            raise TrainingError(str(error)) from error

    def start_from_backbone(self, weights: BackboneWeights) -> None:
        """Take the pretrained weights of the backbone, and set the head from the training photos if that is asked for.

        Raises:
            TrainingError, CacheError, PhotoError: if photos can't be used, or the cache has no room.
        """
        weights.apply(self.model)
        self._prepare_source()
        if self.setup.calibrated:
            self._calibrate()
        self._guard()
        self._keep_start()

    def start_from_version(self, version: ModelVersion, cache_dir: Path | None) -> None:
        """Take the weights of a stored version.

        Raises:
            WeightsError: if they can't be used.
            TrainingError: if the model was configured otherwise; and as :meth:`start_from_backbone`.
        """
        from shop_similarity.training.versions.loading import load_version

        with dtype_policy(self.setup.precision):
            loaded = load_version(version, cache_dir)
        # By name: the version may lack the guard that this run adds.
        known = {layer.name: layer for layer in self.model.layers}
        for layer in loaded.layers:
            if not layer.weights:
                continue
            here = known.get(layer.name)
            if here is None or [w.shape for w in here.weights] != [w.shape for w in layer.weights]:
                raise TrainingError(
                    f"{version.name} can't be fine-tuned as it is configured now: its layer {layer.name} has no place. "
                    "Leave out what --config changes of it."
                )
            here.set_weights(layer.get_weights())
        self._prepare_source()
        self._guard()
        self._keep_start()

    def start_again(self) -> None:
        """Take the weights that the run began with.

        Raises:
            TrainingError: if they are missing; and as :meth:`start_from_backbone`.
        """
        self._load(START_WEIGHTS)
        self._prepare_source()

    def fit(self, watcher: Watcher | None = None, resume: bool = False) -> TrainingResult:
        """Train; see :meth:`shop_similarity.training.learning.loop.Trainer.fit`."""
        names = get_backbone(backbone_of(self.setup.architecture, self.setup.config)).model(
            self.setup.preprocessing.size, full_config(self.setup.architecture, self.setup.config).width
        )
        sampler = self.sampler()
        try:
            relations = self.data.relations(self.setup.sampling.negatives)
            self._trainer = Trainer(
                self.model,
                self._split,
                self._source,
                sampler,
                relations,
                self.setup.training,
                self.folder,
                self.data.to_validate(self.setup.sampling),
                self.distribution,
                watcher,
                [layer.name for layer in names.layers],
            )
        except ValueError as error:
            raise TrainingError(str(error)) from error
        return self._trainer.fit(resume)

    def embed(self, places: np.ndarray, what: str) -> np.ndarray:
        """Embeddings ``(n, d)`` of photos as the model stands now, by their places in the data's list."""
        return self._trainer.embed(places, self._told(what))

    def load_start(self) -> None:
        """Give the model the weights that it started with."""
        self._load(START_WEIGHTS)

    def load_best(self) -> None:
        """Give the model the weights of its best epoch."""
        self._load(BEST_WEIGHTS)

    def _prepare_source(self) -> None:
        self._split = split(self.model)
        if self.setup.cached:
            cache, views = self._cache()
            missing = len(cache.missing(self.data.digests, views))
            if missing and self._tell:
                self._tell(missing, readable_size(missing * cache.bytes_per_photo), cache.folder)
            # Frozen weights are part of its key, so this is the place where they must be right.
            cache.fill(self.data.digests, views, self._pixels, progress=self._told("Computing what is frozen"))
            self._source = CachedSource(cache.select(self.data.digests, views))
        else:
            self._source = PhotoSource(self._read, augment=self.setup.augmentation is not None)

    def _cache(self) -> tuple[FeatureCache, list[int]]:
        parts = self._split
        augmentation = None
        if self.setup.augmentation is not None:
            augmentation = self.setup.augmentation.to_dict()
        key = fingerprint(parts, self.setup.preprocessing.to_dict())
        cache = FeatureCache(self._cache_folder, parts, key, augmentation)
        return cache, self.data.views(self.setup.sampling.views)

    def _sampling(self) -> SamplingOptions:
        if self.setup.cached:
            return self.setup.sampling
        # Where photos are changed anew each time, a second place in the batch is all that a twin needs.
        return replace(self.setup.sampling, views=1 if self.setup.sampling.twins else 0, plain_view=True)

    def _calibrate(self) -> None:
        recipe = RECIPES.get(self.setup.architecture)
        if recipe is None:
            return
        try:
            head = calibrate_head(
                self.model,
                self.training_features(),
                full_config(self.setup.architecture, self.setup.config),
                strength=recipe.whitening,
                seed=SEED,
                tap_trust=recipe.tap_trust,
            )
        except CalibrationError as error:
            raise TrainingError(f"{error} Train without it: --no-calibrate.") from error
        self.calibration = {
            "photos": head.photos,
            "strength": recipe.whitening,
            "shrinkage": round(head.shrinkage, 4),
            "seed": SEED,
        }

    def _guard(self) -> None:
        if not getattr(full_config(self.setup.architecture, self.setup.config), "guard", 0):
            return
        try:
            guard_head(self.model, self.training_features(), SEED)
        except CalibrationError as error:
            raise TrainingError(f"{error} Train without a guard: --config guard=0.") from error

    def training_features(self, count: int = SAMPLE) -> np.ndarray:
        """``(n, d)``: what the head is fed with, of ``count`` training photos at most, as the model stands now."""
        photos = self.data.training_photos()
        if len(photos) > count:
            photos = np.sort(np.random.default_rng(SEED).choice(photos, count, replace=False))
        return self._features(photos)

    def _features(self, places: np.ndarray) -> np.ndarray:
        """``(n, d)``: what the head is fed with, of some photos."""
        model = None
        if FEATURES not in self._split.boundary:
            # From the whole model's tensors: those of the trainable half are copies where it begins in the middle.
            model = keras.Model(self._split.frozen.outputs, self.model.get_layer(FEATURES).output)
        photos = self._source.from_photos

        @tf.function(reduce_retracing=True)
        def step(features: list[tf.Tensor]) -> tf.Tensor:
            tensors = boundary(self._split, features, photos)
            return tf.cast(model(tensors, training=False) if model else tensors[0], tf.float32)

        chunks = [places[start : start + _AHEAD] for start in range(0, len(places), _AHEAD)]
        tell = self._told("Reading features")
        parts, done = [], 0
        for chunk, features in zip(chunks, self._source.plain(chunks), strict=True):
            parts.append(step([tf.constant(feature) for feature in features]).numpy())
            done += len(chunk)
            if tell:
                tell(done, len(places))
        return np.concatenate(parts)

    def _pixels(self, wanted: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        """Pixels of places and views, decoded in threads some photos ahead."""

        def load(photo: tuple[int, int]) -> np.ndarray:
            place, view = photo
            if not view:
                return load_photo(self.data.paths[place], self.setup.preprocessing, limits=self._limits)
            # By what the photo is, not by its place or the run's seed: views serve later runs, and a cache that is
            # filled in two goes is the same.
            generator = generator_of(0, view, int(self.data.digests[place][:12], 16))
            return load_photo(
                self.data.paths[place], self.setup.preprocessing, self.setup.augmentation, generator, self._limits
            )

        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="cache-decode") as pool:
            remaining = iter(wanted)
            while chunk := list(islice(remaining, _AHEAD)):
                yield from pool.map(load, chunk)

    def _read(self, batches: Sequence[np.ndarray], epoch: int, first: int, augment: bool) -> Iterable[np.ndarray]:
        dataset = photo_batches(
            self.data.paths,
            batches,
            self.setup.preprocessing,
            self.setup.augmentation if augment else None,
            self.setup.training.seed,
            epoch,
            limits=self._limits,
            first=first,
        )
        with photo_errors():
            yield from dataset.as_numpy_iterator()

    def _told(self, what: str) -> Callable[[int, int], None] | None:
        if self._progress is None:
            return None
        return lambda done, total: self._progress(what, done, total)

    def _keep_start(self) -> None:
        if not self.distribution.chief:
            return
        part = self.folder / f".part-{START_WEIGHTS}"
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.model.save_weights(part)
            part.replace(self.folder / START_WEIGHTS)
        except OSError as error:
            raise TrainingError(f"The run can't be written to {self.folder}: {error}.") from error
        finally:
            part.unlink(missing_ok=True)

    def _load(self, name: str) -> None:
        path = self.folder / name
        try:
            self.model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(f"{path} can't be read: {error} Start a new run.") from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file of a run in one step."""
    write_atomically(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a run.

    Raises:
        TrainingError: if the folder holds no run.
    """
    try:
        return json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TrainingError(
            f"There is no training run in {folder}: it has no {RUN_FILE}. Name the folder that train_mildnet made."
        ) from error
    except (OSError, ValueError) as error:
        raise TrainingError(f"{folder / RUN_FILE} can't be read: {error}. Start a new run.") from error
