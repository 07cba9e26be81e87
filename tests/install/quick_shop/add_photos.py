"""Products with drawn photos, in a shop that is set up: `python add_photos.py`."""

import io
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.core.files.base import ContentFile  # noqa: E402
from PIL import Image  # noqa: E402
from shop.models import Photo, Product  # noqa: E402

for name in ("red", "blue", "green", "black", "white"):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), name).save(file, "PNG")
    Photo.objects.create(product=Product.objects.create(name=name), file=ContentFile(file.getvalue(), f"{name}.png"))
