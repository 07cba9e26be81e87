"""An active version of a MILDNet of a sixteenth of the width with drawn weights: quick, and good for nothing else."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.core.files.base import ContentFile

CONFIG = {"width": 0.0625, "frozen_through": None}


if TYPE_CHECKING:
    from shop_similarity.models import ModelVersion


def main() -> None:
    django.setup()
    make_shrunk_version()


def make_shrunk_version(config: dict[str, Any] = CONFIG, side: int = 32) -> ModelVersion:
    """An active version for photos of ``side`` pixels."""
    import keras

    from shop_similarity.models import ModelVersion
    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.preprocessing import Preprocessing

    keras.utils.set_random_seed(7)
    preprocessing = Preprocessing(size=side)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shrunk.weights.h5"
        build("mildnet", config, preprocessing).save_weights(path)
        weights = path.read_bytes()
    version = ModelVersion(
        name="shrunk",
        architecture="mildnet",
        config=config,
        preprocessing=preprocessing.to_dict(),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        state=ModelVersion.State.ACTIVE,
    )
    version.weights.save("shrunk.weights.h5", ContentFile(weights), save=False)
    version.save()
    return version


if __name__ == "__main__":
    main()
