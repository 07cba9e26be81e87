"""A training run from its starting weights to its trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from shop_similarity.photos.decoding import DEFAULT_LIMITS, ImageLimits
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.heads.calibration import CalibrationError, calibrate_head, guard_head
from shop_similarity.training.heads.recipe import RECIPES, SAMPLE, SEED
from shop_similarity.training.learning.data import TrainingData
from shop_similarity.training.learning.distribution import Distribution
from shop_similarity.training.learning.feature_sources import CachedSource, FeatureSource, PhotoReader, PhotoSource
from shop_similarity.training.learning.folder import (
    BEST_WEIGHTS,
    CALIBRATION,
    START_WEIGHTS,
    load_weights,
    read_json,
    save_weights,
    write_json,
)
from shop_similarity.training.learning.loop import Trainer, TrainingResult, Watcher
from shop_similarity.training.learning.sampling import Sampler
from shop_similarity.training.learning.setup import Setup
from shop_similarity.training.learning.step import boundary
from shop_similarity.training.networks.architectures import FEATURES, build, full_config, trunk_of
from shop_similarity.training.networks.architectures.colour import COLOUR
from shop_similarity.training.networks.architectures.mildnet import MildnetConfig
from shop_similarity.training.networks.backbones import TrunkWeights
from shop_similarity.training.networks.precision import dtype_policy
from shop_similarity.training.networks.questions import Questions
from shop_similarity.training.networks.runner import FixedShape
from shop_similarity.training.networks.splitting import Split, split
from shop_similarity.training.networks.weights_files import WeightsFileError, require_finite
from shop_similarity.training.photos.feature_cache import FeatureCache, fingerprint, readable_size

if TYPE_CHECKING:
    from shop_similarity.models import ModelVersion

_CHUNK = 64

# Called as progress(what, done, total).
Progress = Callable[[str, int, int], None]


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
        self._reader = PhotoReader(data, setup, limits)
        self._announce = announce
        self._cache_folder = cache
        keras.utils.set_random_seed(setup.training.seed)
        with self.distribution.scope(), dtype_policy(setup.precision):
            self.model = build(setup.architecture, setup.config, setup.preprocessing)
        self._config = full_config(setup.architecture, setup.config)
        self.calibration: dict[str, Any] | None = None
        self._split: Split | None = None
        self._source: FeatureSource | None = None
        self._trainer: Trainer | None = None

    def sampler(self) -> Sampler:
        """Batches to train on.

        Raises:
            TrainingError: if the data has too little for what is asked.
        """
        sampling = self.setup.sampling
        if not self.setup.cached:
            # Where photos are changed anew each time, a second place in the batch is all that a twin needs.
            sampling = replace(sampling, views=int(sampling.twins))
        try:
            return self.data.sampler(sampling, self.setup.training.seed)
        except ValueError as error:
            raise TrainingError(str(error)) from error

    def start_from_backbone(self, weights: TrunkWeights) -> None:
        """Take the pretrained weights of the backbones, and set the head from the training photos if that is asked for.

        Raises:
            TrainingError, CacheError, PhotoError: if photos can't be used, or the cache has no room.
        """
        weights.apply(self.model)
        try:
            require_finite(self.model)
        except WeightsFileError as error:
            raise TrainingError(
                f"The run can't start from {weights.source}: {error}. Name other weights with --weights."
            ) from error
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
            base = load_version(version, cache_dir)
        # By name: the version may lack the guard that this run adds.
        layers = {layer.name: layer for layer in self.model.layers}
        for layer in base.layers:
            if not layer.weights:
                continue
            here = layers.get(layer.name)
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
        self.load_start()
        self.calibration = read_json(self.folder / CALIBRATION)
        self._prepare_source()

    def fit(self, watcher: Watcher | None = None, resume: bool = False) -> TrainingResult:
        """Train; see :meth:`shop_similarity.training.learning.loop.Trainer.fit`."""
        setup = self.setup
        trunk = trunk_of(setup.architecture, setup.config)
        assert self._split is not None and self._source is not None
        try:
            self._trainer = Trainer(
                self.model,
                self._split,
                self._source,
                self.sampler(),
                self.data.relations(setup.sampling),
                setup.training,
                self.folder,
                self.data.to_validate(setup.sampling),
                self.distribution,
                watcher,
                trunk.layer_names(),
                getattr(self._config, "tap_lengths", {}).get(COLOUR, 0),
                Questions.of(setup.config),
            )
        except ValueError as error:
            raise TrainingError(str(error)) from error
        return self._trainer.fit(resume)

    def embed(self, places: np.ndarray, what: str) -> np.ndarray:
        """Embeddings ``(n, d)`` of photos as the model stands now, by their places in the data's list."""
        assert self._trainer is not None
        return self._trainer.embed(places, self._counted(what))

    def load_start(self) -> None:
        """Give the model the weights that it started with."""
        self._load(START_WEIGHTS)

    def load_best(self) -> None:
        """Give the model the weights of its best epoch."""
        self._load(BEST_WEIGHTS)

    def _load(self, name: str) -> None:
        load_weights(self.model, self.folder / name)
        if self._trainer:
            self._trainer.take_weights()

    def _prepare_source(self) -> None:
        setup = self.setup
        self._split = split(self.model)
        if not setup.cached:
            self._source = PhotoSource(self._reader.batches, augment=setup.augmentation is not None)
            return
        # Frozen weights are part of its key, so this is the place where they must be right.
        key = fingerprint(self._split, setup.preprocessing.to_dict())
        augmentation = None if setup.augmentation is None else setup.augmentation.to_dict()
        cache = FeatureCache(self._cache_folder, self._split, key, augmentation)
        digests, views = self.data.digests, self.data.views(setup.sampling.views)
        missing = len(cache.missing(digests, views))
        if missing and self._announce:
            self._announce(missing, readable_size(missing * cache.bytes_per_photo), cache.folder)
        cache.fill(digests, views, self._reader.views, progress=self._counted("Computing what is frozen"))
        self._source = CachedSource(cache.select(digests, views))

    def _calibrate(self) -> None:
        recipe = RECIPES.get(self.setup.architecture)
        if recipe is None:
            return
        assert isinstance(self._config, MildnetConfig)
        try:
            head = calibrate_head(
                self.model,
                self.training_features(),
                self._config,
                strength=recipe.whitening,
                seed=SEED,
                tap_trust=recipe.tap_trust,
                products=self.data.products()[self._sample(SAMPLE)],
            )
        except CalibrationError as error:
            raise TrainingError(f"{error} Train without it: --no-calibrate.") from error
        self.calibration = {**head.figures(), "strength": recipe.whitening, "seed": SEED}

    def _guard(self) -> None:
        if not getattr(self._config, "guard", 0):
            return
        try:
            guard_head(self.model, self.training_features(), SEED)
        except CalibrationError as error:
            raise TrainingError(f"{error} Train without a guard: --config guard=0.") from error

    def training_features(self, count: int = SAMPLE) -> np.ndarray:
        """``(n, d)``: what the head is fed with, of ``count`` training photos at most, as the model stands now."""
        photos = self._sample(count)
        model = None
        divided, source = self._split, self._source
        assert divided is not None and source is not None
        if FEATURES not in divided.boundary:
            # From the whole model's tensors: those of the trainable half are copies where it begins in the middle.
            model = keras.Model(divided.frozen.outputs, self.model.get_layer(FEATURES).output)

        def head_input(*features: tf.Tensor) -> tf.Tensor:
            tensors = boundary(divided, features, source.from_photos)
            return model(tensors, training=False) if model else tensors[0]

        step = FixedShape(head_input, _CHUNK)
        chunks = [photos[start : start + _CHUNK] for start in range(0, len(photos), _CHUNK)]
        progress = self._counted("Reading features")
        parts, done = [], 0
        for chunk, features in zip(chunks, source.plain(chunks), strict=True):
            parts += step(*features)
            done += len(chunk)
            if progress:
                progress(done, len(photos))
        return np.concatenate(parts)

    def _sample(self, count: int) -> np.ndarray:
        """Places of ``count`` training photos at most, ascending: all photos of products that are drawn at random."""
        photos = self.data.training_photos()
        products = self.data.products()[photos]
        turn = np.random.default_rng(SEED).permutation(products.max() + 1)
        return np.sort(photos[np.argsort(turn[products], kind="stable")[:count]])

    def _keep_start(self) -> None:
        if self.distribution.chief:
            if self.calibration:
                write_json(self.folder / CALIBRATION, self.calibration)
            save_weights(self.model, self.folder / START_WEIGHTS)

    def _counted(self, what: str) -> Callable[[int, int], None] | None:
        return partial(self._progress, what) if self._progress else None
