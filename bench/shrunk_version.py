"""An active version of a MILDNet of a sixteenth of the width with drawn weights: quick, and good for nothing else."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import django
from django.core.files.base import ContentFile

CONFIG = {"width": 0.0625, "frozen_through": None}


def main() -> None:
    django.setup()
    import keras

    from shop_similarity.models import ModelVersion
    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.preprocessing import Preprocessing

    keras.utils.set_random_seed(7)
    preprocessing = Preprocessing(size=32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shrunk.weights.h5"
        build("mildnet", CONFIG, preprocessing).save_weights(path)
        weights = path.read_bytes()
    version = ModelVersion(
        name="shrunk",
        architecture="mildnet",
        config=CONFIG,
        preprocessing=preprocessing.to_dict(),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        state=ModelVersion.State.ACTIVE,
    )
    version.weights.save("shrunk.weights.h5", ContentFile(weights), save=False)
    version.save()


if __name__ == "__main__":
    main()
