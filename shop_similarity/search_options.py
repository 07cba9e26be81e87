"""The address under which the docs named the options before; they are part of :mod:`shop_similarity.search`."""

from .search import Filters, SearchOptions

__all__ = ["Filters", "SearchOptions"]
