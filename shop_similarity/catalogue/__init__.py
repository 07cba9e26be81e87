"""How the plugin sees the shop: its models, its keys and the field paths that settings name."""

from .field_paths import ProductValue, setting_value
from .product_keys import NotAKeyError, key_segment, product_key, segment_key
from .product_urls import product_url
from .querysets import filterable
from .shop import FILE, OWNER, PRODUCT, Catalogue, ImageRow, ProductPhoto, get_catalogue

__all__ = [
    "FILE",
    "OWNER",
    "PRODUCT",
    "Catalogue",
    "ImageRow",
    "NotAKeyError",
    "ProductPhoto",
    "ProductValue",
    "filterable",
    "get_catalogue",
    "key_segment",
    "product_key",
    "product_url",
    "segment_key",
    "setting_value",
]
