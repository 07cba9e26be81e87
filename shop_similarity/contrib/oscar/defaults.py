"""What ``SHOP_SIMILARITY`` has to say in a django-oscar shop."""

from __future__ import annotations

from typing import Any

_PRODUCTS = "shop_similarity.contrib.oscar.products"


def oscar_settings() -> dict[str, Any]:
    """The keys of ``SHOP_SIMILARITY`` that describe Oscar's catalogue, forked or not.

    To be called in the shop's settings: ``SHOP_SIMILARITY = {**oscar_settings(), "MIN_SIMILARITY": 0.3}``. Each key may
    be overridden there. Forks of Oscar's apps keep their labels, so the names hold for them as well.
    """
    return {
        "PRODUCT_MODEL": "catalogue.Product",
        "IMAGES": "images.original",
        "IMAGE_FILTER": f"{_PRODUCTS}.public_photos",
        "PARENT": "parent",
        "VARIANT_GROUP": "parent",
        "PRODUCTS": f"{_PRODUCTS}.browsable",
        "CATEGORY": f"{_PRODUCTS}.category",
        "PRICE": f"{_PRODUCTS}.price",
        "IN_STOCK": f"{_PRODUCTS}.available",
        "THUMBNAILS": "shop_similarity.contrib.oscar.thumbnails.copies",
    }
