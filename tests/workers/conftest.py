"""A real MILDNet, shrunk, for tests of the workers."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
from collections.abc import Callable

import pytest
from django.core.files.base import ContentFile

from shop_similarity.models import ModelVersion

# What tests of this process have loaded, by all that a network hangs on.
_networks: dict = {}

CONFIG = {"width": 0.0625, "frozen_through": None}
TWO_QUESTIONS = CONFIG | {"colour": 0.2, "instance": 0.15}


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Callable[..., bytes]:
    """Weights of a MILDNet of a sixteenth of the width, for photos of 32 pixels, by the seed they are drawn with."""
    # Of the plugin's tests these alone compute; the others run where TensorFlow is not installed.
    keras = pytest.importorskip("keras")

    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.preprocessing import Preprocessing

    @functools.cache
    def make(seed: int, questions: int = 1) -> bytes:
        keras.utils.set_random_seed(seed)
        model = build("mildnet", CONFIG if questions == 1 else TWO_QUESTIONS, Preprocessing(size=32))
        path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
        model.save_weights(path)
        return path.read_bytes()

    return make


@pytest.fixture
def kept_networks(monkeypatch) -> None:
    """Build, fill and compile a network once for all tests of this process.

    The weights are looked for and their sha256 is compared as ever. ``loaded_anew`` leaves a test's networks its own.
    """
    import keras

    from shop_similarity.training.networks import runner
    from shop_similarity.training.versions import loading

    load_version, inference = loading.load_version, runner.inference

    def load(version, cache_dir=None):
        makers = (version.architecture, version.config, version.preprocessing, keras.config.dtype_policy().name)
        key = (version.weights_sha256, json.dumps(makers, sort_keys=True))
        if key not in _networks:
            _networks[key] = load_version(version, cache_dir), {}
            # As after collection: this stays, and the tests have their garbage collected again and again.
            gc.freeze()
        with loading._checked_file(version, cache_dir):
            return _networks[key][0]

    def compiled(model, size):
        (steps,) = [steps for kept, steps in _networks.values() if kept is model]
        if size not in steps:
            steps[size] = inference(model, size)
        return steps[size]

    monkeypatch.setattr(loading, "load_version", load)
    monkeypatch.setattr(runner, "inference", compiled)


@pytest.fixture
def loaded_anew(monkeypatch) -> None:
    """Networks of this test alone."""
    monkeypatch.setitem(globals(), "_networks", {})


@pytest.fixture
def tiny_version(tiny_weights, kept_networks) -> Callable[..., ModelVersion]:
    """Factory of model versions with such weights in the real storage."""
    from shop_similarity.training.networks.preprocessing import Preprocessing

    def make(
        name: str = "tiny", state: str = ModelVersion.State.ACTIVE, seed: int = 7, questions: int = 1
    ) -> ModelVersion:
        weights = tiny_weights(seed, questions)
        version = ModelVersion(
            name=name,
            architecture="mildnet",
            config=CONFIG if questions == 1 else TWO_QUESTIONS,
            preprocessing=Preprocessing(size=32).to_dict(),
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            state=state,
        )
        version.weights.save(f"{name}.weights.h5", ContentFile(weights), save=False)
        version.save()
        return version

    return make
