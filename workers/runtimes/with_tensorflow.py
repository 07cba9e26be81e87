"""Networks computed by TensorFlow, on a GPU where there is one: the default."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from shop_similarity.conf import get_settings
from shop_similarity.training.extras import require
from shop_similarity.workers.runtimes.interface import EXACT, Step

if TYPE_CHECKING:
    import keras

    from shop_similarity.models import ModelVersion

# Photos per step without a GPU. A shopper's photo waits for the step under way, and larger steps gain little: on two
# cores MILDNet takes 0.162, 0.153, 0.149 and 0.142 s of processor time a photo in steps of 1, 2, 4 and 16.
_CPU_STEP = 2


class KerasNetwork:
    """A Keras model; see :class:`~shop_similarity.workers.runtimes.interface.Network`.

    Attributes:
        model: with the version's weights.
    """

    def __init__(self, model: keras.Model, precision: str, step_size: int) -> None:
        self.model = model
        self.precision = precision
        self.step_size = step_size

    def step(self, size: int) -> Step:
        from shop_similarity.training.networks.runner import inference

        function = inference(self.model, size)

        def step(photos: np.ndarray) -> np.ndarray:
            (rows,) = function(photos)
            return rows

        return step


class TensorFlow:
    """See :class:`~shop_similarity.workers.runtimes.interface.Runtime`."""

    name = "TensorFlow"

    def check(self) -> None:
        require("tensorflow")

    def load(self, version: ModelVersion, precision: str | None = None) -> KerasNetwork:
        self.check()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        from shop_similarity.training.networks.devices import share_gpus
        from shop_similarity.training.networks.precision import dtype_policy
        from shop_similarity.training.versions.loading import fast_policy_of, load_version

        settings = get_settings()
        share_gpus()
        policy = EXACT if precision == EXACT else fast_policy_of(version)
        with dtype_policy(policy):
            model = load_version(version, cache_dir=settings.weights_cache)
        has_gpu = bool(tf.config.list_physical_devices("GPU"))
        return KerasNetwork(model, policy.removeprefix("mixed_"), settings.batch_size if has_gpu else _CPU_STEP)

    def load_saliency(self, content: bytes) -> Step:
        self.check()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

        from shop_similarity.training.networks.devices import share_gpus
        from shop_similarity.training.networks.precision import dtype_policy, saliency_policy
        from shop_similarity.training.networks.saliency.weights import load

        share_gpus()
        policy = saliency_policy()
        with dtype_policy(policy):
            model = load(content)
        return KerasNetwork(model, policy.removeprefix("mixed_"), 1).step(1)
