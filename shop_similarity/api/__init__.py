"""The REST API, an optional part of the plugin: ``pip install "shop-similarity[api]"``, then include its ``urls``."""
