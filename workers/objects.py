"""Finding the objects of a photo, where the weights of U2-Net-p are at hand: the box to search with, and others.

Without the weights photos are searched with as a whole. Whether they are there is looked at once in a while, so that a
worker need not be started anew.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import numpy as np
from PIL import Image

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.networks.saliency.objects import Box, boxes_of
from shop_similarity.training.networks.saliency.weights import SIZE, read_weights
from shop_similarity.training.versions.weights_cache import default_weights_cache
from shop_similarity.workers.embedder import urgent_turn
from shop_similarity.workers.runtimes.choice import get_runtime
from shop_similarity.workers.runtimes.interface import FindsObjects, Step

logger = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 60.0

_loading = threading.Lock()
_step: Step | None = None
_look_again = 0.0
_said = ""


def boxes_in(image: Image.Image, step: Step) -> list[Box]:
    """The boxes of the objects of a photo that somebody waits for.

    Args:
        image: RGB.
        step: what :func:`network` gives.

    Returns:
        As :func:`shop_similarity.training.networks.saliency.objects.boxes_of`; none, with a line in the log, where they
        can't be found.
    """
    pixels = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=3.0))
    try:
        with urgent_turn():
            (mask,) = step(pixels[np.newaxis])
        return boxes_of(mask)
    except Exception:
        logger.exception("The objects of a photo that a shopper searched with could not be found.")
        return []


def release() -> None:
    """Free the network."""
    global _step, _look_again, _said
    with _loading:
        _step, _look_again, _said = None, 0.0, ""


def network() -> Step | None:
    """The network, loaded and compiled; None while its weights are not here.

    Never to be called within a turn: while it is loaded, other threads wait for it and for a turn.
    """
    global _step, _look_again, _said
    with _loading:
        if _step is None and time.monotonic() >= _look_again:
            try:
                content = read_weights(default_weights_cache())
                step = _runtime().load_saliency(content)
                with urgent_turn():
                    step(np.zeros((1, SIZE, SIZE, 3), np.uint8))
                _step = step
            # Whatever it is, photos are searched with as a whole.
            except Exception as error:
                _look_again = time.monotonic() + _LOOK_AGAIN_SECONDS
                if str(error) != _said:
                    _said = str(error)
                    logger.info("%s", error, exc_info=not isinstance(error, TrainingError))
        return _step


def _runtime() -> FindsObjects:
    runtime: Any = get_runtime()
    if hasattr(runtime, "load_saliency"):
        return runtime
    from shop_similarity.workers.runtimes.with_tensorflow import TensorFlow

    return TensorFlow()
