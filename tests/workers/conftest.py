"""A real MILDNet, shrunk, for tests of the workers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable

import pytest
from django.core.files.base import ContentFile

from shop_similarity.models import ModelVersion

CONFIG = {"width": 0.0625, "frozen_through": None}


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Callable[[int], bytes]:
    """Weights of a MILDNet of a sixteenth of the width, for photos of 32 pixels, by the seed they are drawn with."""
    import keras

    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.preprocessing import Preprocessing

    @functools.cache
    def make(seed: int) -> bytes:
        keras.utils.set_random_seed(seed)
        model = build("mildnet", CONFIG, Preprocessing(size=32))
        path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
        model.save_weights(path)
        return path.read_bytes()

    return make


@pytest.fixture
def tiny_version(tiny_weights) -> Callable[..., ModelVersion]:
    """Factory of model versions with such weights in the real storage."""
    from shop_similarity.training.networks.preprocessing import Preprocessing

    def make(name: str = "tiny", state: str = ModelVersion.State.ACTIVE, seed: int = 7) -> ModelVersion:
        weights = tiny_weights(seed)
        version = ModelVersion(
            name=name,
            architecture="mildnet",
            config=CONFIG,
            preprocessing=Preprocessing(size=32).to_dict(),
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            state=state,
        )
        version.weights.save(f"{name}.weights.h5", ContentFile(weights), save=False)
        version.save()
        return version

    return make
