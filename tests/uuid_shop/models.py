"""Another shop: products with UUIDs for keys, the photo a field of the product itself, some products of a subtype."""

import uuid

from django.db import models


class Poster(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    title = models.CharField(max_length=100)
    motif = models.CharField(max_length=50, blank=True)
    picture = models.ImageField(blank=True)

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return f"/posters/{self.pk}/"


class FramedPoster(Poster):
    frame = models.CharField(max_length=20)
