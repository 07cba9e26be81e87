"""The runtime that the setting ``RUNTIME`` names."""

from __future__ import annotations

import functools

from django.utils.module_loading import import_string

from shop_similarity.conf import get_settings
from shop_similarity.training.errors import TrainingError
from shop_similarity.workers.runtimes.interface import Runtime

_SHIPPED = {
    "tensorflow": "shop_similarity.workers.runtimes.with_tensorflow.TensorFlow",
    "openvino": "shop_similarity.workers.runtimes.with_openvino.OpenVINO",
}


def get_runtime() -> Runtime:
    """The runtime of this process.

    Raises:
        TrainingError: the setting names none that can be imported.
    """
    return _make(get_settings().runtime)


@functools.cache
def _make(name: str) -> Runtime:
    try:
        return import_string(_SHIPPED.get(name, name))()
    except ImportError as error:
        raise TrainingError(
            f"RUNTIME names {name!r}, which can't be imported: {error}. Write one of {', '.join(_SHIPPED)}, or the "
            "dotted path of a class of your own."
        ) from error
