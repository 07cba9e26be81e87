"""``add_product NAME...``: products with a photo each, as the shop's staff saves them, or in bulk past all signals."""

import io

import numpy as np
from django.core.files.base import ContentFile
from django.core.management.base import BaseCommand
from PIL import Image

from catalog.models import Photo, Product


def jpeg(name: str) -> bytes:
    pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(buffer, "JPEG")
    return buffer.getvalue()


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("names", nargs="+")
        parser.add_argument("--bulk", action="store_true")

    def handle(self, *, names, bulk, **options):
        for name in names:
            photo = Photo(product=Product.objects.create(name=name))
            photo.file.save(f"{name}.jpg", ContentFile(jpeg(name)), save=False)
            if bulk:
                Photo.objects.bulk_create([photo])
            else:
                photo.save()
            self.stdout.write(f"{name}: /products/{photo.product_id}/")
