"""What the API takes and gives."""

from __future__ import annotations

from typing import Any

from django.db import models
from rest_framework import serializers

from ..catalogue import get_catalogue


class SimilarProductsParameters(serializers.Serializer):
    """Query parameters of a search for look-alikes."""

    limit = serializers.IntegerField(min_value=1, max_value=100, default=8)


class SimilarProductSerializer(serializers.Serializer):
    """A product found by :func:`shop_similarity.search.similar_products`."""

    id = serializers.CharField(source="pk")
    name = serializers.CharField(source="__str__")
    url = serializers.SerializerMethodField()
    image = serializers.SerializerMethodField()
    similarity = serializers.FloatField()

    def _absolute(self, url: str) -> str:
        request = self.context.get("request")
        return request.build_absolute_uri(url) if request else url

    def get_url(self, product: models.Model) -> str | None:
        return self._absolute(product.get_absolute_url()) if hasattr(product, "get_absolute_url") else None

    def get_image(self, product: models.Model) -> str | None:
        images: list[Any] = get_catalogue().product_images(product)
        best = next((image for image in images if image.instance.pk == product.similar_image_id), None)
        return self._absolute(best.url) if best else None
