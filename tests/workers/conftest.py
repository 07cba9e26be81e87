"""A real MILDNet, shrunk, for tests of the workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from django.core.files.base import ContentFile

from shop_similarity.models import ModelVersion

CONFIG = {"width": 0.0625, "frozen_through": None}


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> bytes:
    """Weights of a MILDNet of a sixteenth of the width, for photos of 32 pixels."""
    import keras

    from training.architectures import build
    from training.preprocessing import Preprocessing

    keras.utils.set_random_seed(7)
    model = build("mildnet", CONFIG, Preprocessing(size=32))
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    model.save_weights(path)
    return path.read_bytes()


@pytest.fixture
def tiny_version(tiny_weights) -> Callable[..., ModelVersion]:
    """Factory of model versions with those weights in the real storage."""
    from training.preprocessing import Preprocessing

    def make(name: str = "tiny", state: str = ModelVersion.State.ACTIVE) -> ModelVersion:
        version = ModelVersion(
            name=name,
            architecture="mildnet",
            config=CONFIG,
            preprocessing=Preprocessing(size=32).to_dict(),
            weights_sha256=hashlib.sha256(tiny_weights).hexdigest(),
            state=state,
        )
        version.weights.save(f"{name}.weights.h5", ContentFile(tiny_weights), save=False)
        version.save()
        return version

    return make
