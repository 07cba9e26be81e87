"""How the plugin sees the shop: its models, its keys and the field paths that settings name."""

from .field_paths import FieldPath, parsed, setting_path, unsliced
from .shop import Catalogue, ImageRow, get_catalogue

__all__ = ["Catalogue", "FieldPath", "ImageRow", "get_catalogue", "parsed", "setting_path", "unsliced"]
