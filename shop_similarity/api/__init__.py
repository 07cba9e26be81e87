"""The REST API, an optional part of the plugin: install the extra ``api``, then include its ``urls``."""
