"""Where the products of the demo come from."""

from catalog.sources.choosing import Source, choose_source

__all__ = ["Source", "choose_source"]
