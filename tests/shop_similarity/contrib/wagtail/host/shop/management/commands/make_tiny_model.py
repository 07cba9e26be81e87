"""A MILDNet of a sixteenth of the width for photos of 32 pixels, as the shop's active version that has embedded it."""

import hashlib
import tempfile
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.management import call_command
from django.core.management.base import BaseCommand

from shop_similarity.models import ModelVersion

CONFIG = {"width": 0.0625, "frozen_through": None}


class Command(BaseCommand):
    def handle(self, **options):
        import keras

        from shop_similarity.training.networks.architectures import build
        from shop_similarity.training.networks.preprocessing import Preprocessing

        keras.utils.set_random_seed(7)
        preprocessing = Preprocessing(size=32)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "tiny.weights.h5"
            build("mildnet", CONFIG, preprocessing).save_weights(file)
            weights = file.read_bytes()
        version = ModelVersion(
            name="tiny",
            architecture="mildnet",
            config=CONFIG,
            preprocessing=preprocessing.to_dict(),
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            state=ModelVersion.State.ACTIVE,
        )
        version.weights.save("tiny.weights.h5", ContentFile(weights), save=False)
        version.save()
        call_command("embed_products", stdout=self.stdout)
