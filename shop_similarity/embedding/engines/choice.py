"""The engine that the setting ``ENGINE`` names."""

from __future__ import annotations

import functools
import json
import os

from django.utils.module_loading import import_string

from ...conf import get_settings
from ...engine_errors import EngineError
from .interface import Engine

_PGVECTOR = "pgvector"
_SHIPPED = {
    _PGVECTOR: "shop_similarity.embedding.engines.with_pgvector.Pgvector",
    "milvus": "shop_similarity.embedding.engines.with_milvus.Milvus",
}


def is_beside() -> bool:
    """Whether candidates of large catalogues come from an engine beside Postgres."""
    if get_settings().engine == _PGVECTOR:
        return False
    try:
        return get_engine().is_beside
    except EngineError:
        # Searches and `check` say what is wrong.
        return True


def get_engine() -> Engine:
    """The engine of this process.

    Raises:
        EngineError: the settings name none that can be made; the sentence says what to do.
    """
    settings = get_settings()
    # By process, for a connection does not survive a fork.
    return _make(settings.engine, json.dumps(settings.engine_options or {}, sort_keys=True, default=str), os.getpid())


@functools.lru_cache(maxsize=4)
def _make(name: str, options: str, process: int) -> Engine:
    try:
        made = import_string(_SHIPPED.get(name, name))
    except ImportError as error:
        raise EngineError(
            f"ENGINE names {name!r}, which can't be imported: {error}. Write one of {', '.join(_SHIPPED)}, or the "
            "dotted path of a class of your own."
        ) from error
    return made(get_settings().engine_options or {})
