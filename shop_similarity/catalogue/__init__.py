"""How the plugin sees the shop: its models, its keys and the field paths that settings name."""

from .field_paths import FieldPath, parsed, setting_path, unsliced
from .product_keys import NotAKeyError, product_key
from .shop import FILE, OWNER, PRODUCT, Catalogue, ImageRow, ProductPhoto, get_catalogue

__all__ = [
    "FILE",
    "OWNER",
    "PRODUCT",
    "Catalogue",
    "FieldPath",
    "ImageRow",
    "NotAKeyError",
    "ProductPhoto",
    "get_catalogue",
    "parsed",
    "product_key",
    "setting_path",
    "unsliced",
]
